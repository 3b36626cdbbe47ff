# Carries out cases with grpc for Ruby; Tests/Interop/cases/README.md describes them, and run_cases.py starts this:
#
#     driver.rb --target HOST:PORT --ca FILE CASE...
#
# It writes a line of JSON for each case, and for each thing asked of run_cases.py, whose answers come as lines of JSON.

require 'json'
require 'optparse'
require 'martlet_grpc'
require 'runner'

def say(line)
  puts JSON.generate(line)
  $stdout.flush
end

def ask_server(step)
  say(ask: step)
  answer = JSON.parse($stdin.readline)
  raise Failure, answer['error'] if answer.key?('error')

  answer
end

options = {}
OptionParser.new do |parser|
  parser.on('--target TARGET')
  parser.on('--ca FILE')
end.parse!(into: options)

methods = Martlet.methods_of(options[:target], options[:ca])
ARGV.each do |path|
  name = File.basename(path, '.json')
  begin
    Runner.new(methods, method(:ask_server)).run(JSON.parse(File.read(path, encoding: 'UTF-8'))['steps'])
    say(case: name, passed: true, why: '')
  rescue Failure => e
    say(case: name, passed: false, why: e.message)
  end
end
