# The language of Tests/Interop/cases without any calls: variables, and patterns.

require 'base64'
require 'json'
require 'securerandom'

# A step did not come to what it expects.
class Failure < StandardError
end

# What a case has saved, and the ids that it has made.
class Variables
  def initialize
    @values = {}
  end

  # Keeps what lies at the paths of an answer.
  def save(paths, answer)
    paths.each { |name, path| @values[name] = find(path, answer).to_s }
  end

  # The value with its variables replaced, and with JSON as bytes unless it is a pattern.
  def fill(value, pattern: false)
    case value
    when String then value.gsub(/\$\{([^}]+)\}/) { text(Regexp.last_match(1)) }
    when Array then value.map { |one| fill(one, pattern: pattern) }
    when Hash
      filled = value.transform_values { |one| fill(one, pattern: pattern) }
      filled.key?('$json') && !pattern ? Base64.strict_encode64(JSON.generate(filled['$json'])) : filled
    else value
    end
  end

  private

  def text(name)
    @values.fetch(name) do
      raise Failure, "nothing was saved as #{name}" unless name.start_with?('uuid:')

      @values[name] = Base64.strict_encode64(SecureRandom.bytes(16))
    end
  end

  def find(path, answer)
    path.split('.').reduce(answer) do |value, part|
      found = value.is_a?(Array) ? value[Integer(part)] : value&.fetch(part, nil)
      raise Failure, "there is no #{path} in the answer" if found.nil?

      found
    end
  end
end

# Compares values with patterns.
module Pattern
  # Where and how a value does not match a pattern; nil if it does.
  def self.difference(pattern, value, path = '')
    case pattern
    when Hash then difference_of_hash(pattern, value, path)
    when Array
      size = pattern.size
      return "#{path}: #{value} has not #{size} elements" unless value.is_a?(Array) && value.size == size

      first(pattern.each_index) { |index| difference(pattern[index], value[index], "#{path}.#{index}") }
    else "#{path}: #{value.inspect} is not #{pattern.inspect}" unless pattern == value
    end
  end

  def self.match(pattern, value)
    wrong = difference(pattern, value)
    raise Failure, wrong if wrong
  end

  def self.difference_of_hash(pattern, value, path)
    if pattern.key?('$json')
      stored = JSON.parse(Base64.strict_decode64(value))
      "#{path}: #{stored} is not #{pattern['$json']}" unless stored == pattern['$json']
    elsif pattern.key?('$count')
      count = pattern['$count']
      "#{path}: #{value} has not #{count} elements" unless value.is_a?(Array) && value.size == count
    elsif pattern.key?('$contains')
      missing = pattern['$contains'].find { |part| (value || []).none? { |one| difference(part, one).nil? } }
      "#{path}: nothing matches #{missing}" if missing
    elsif value.is_a?(Hash)
      first(pattern) { |name, one| difference(one, value[name], "#{path}.#{name}") }
    else
      "#{path}: #{value.inspect} is no object"
    end
  end

  # The first result that is not nil.
  def self.first(elements, &block)
    elements.lazy.map(&block).find(&:itself)
  end

  private_class_method :difference_of_hash, :first
end
