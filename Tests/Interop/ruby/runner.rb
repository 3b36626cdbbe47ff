# Carries out a case's steps.

require 'google/protobuf/well_known_types'
require 'martlet_grpc'
require 'values'

# Carries out the steps of one case.
class Runner
  # A stream of answers that steps read from.
  OpenStream = Struct.new(:operation, :messages)

  def initialize(methods, ask_server)
    @methods = methods
    @ask_server = ask_server
    @variables = Variables.new
    @streams = {}
  end

  # Carries out the steps; the failure of the first one that fails has its number.
  def run(steps)
    steps.each.with_index(1) do |step, number|
      carry_out(step)
    rescue StandardError => e
      raise Failure, "step #{number}: #{e.message}"
    end
  ensure
    @streams.each_value { |stream| stream.operation.cancel }
  end

  private

  def carry_out(step)
    if step.key?('open') then @streams[step['open']] = open(step, 600_000)
    elsif step.key?('read') then read(@streams.fetch(step['read']).messages, step)
    elsif step.key?('cancel') then @streams.fetch(step['cancel']).operation.cancel
    elsif step.key?('server')
      @variables.save(step['save'] || {}, @ask_server.call(@variables.fill(step)))
    else repeat(step.fetch('within_millis', 0) / 1000.0) { call(step) }
    end
  end

  # Repeats what fails until the time is over.
  def repeat(seconds)
    give_up = now + seconds
    begin
      yield
    rescue Failure
      raise if now >= give_up

      sleep 0.05
      retry
    end
  end

  def now
    Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end

  def begin_call(step, deadline_millis)
    method = @methods.fetch(step['call'])
    request = method.request_class.decode_json(JSON.generate(@variables.fill(step['request'])))
    method.operation(request, Time.now + step.fetch('deadline_millis', deadline_millis) / 1000.0)
  end

  def open(step, deadline_millis)
    operation = begin_call(step, deadline_millis)
    OpenStream.new(operation, operation.execute)
  end

  def call(step)
    return read(open(step, 30_000).messages, step) if @methods.fetch(step['call']).streams_answers?

    reading = Reading.new(step, @variables)
    begin
      reading.take(begin_call(step, 30_000).execute)
    rescue GRPC::BadStatus => e
      return reading.finish_with(e)
    end
    reading.finish_with(nil)
  end

  def read(messages, step)
    reading = Reading.new(step, @variables)
    begin
      loop do
        return reading.finish if reading.take(messages.next)

        sleep(step.fetch('pause_millis', 0) / 1000.0)
      end
    rescue GRPC::BadStatus => e
      return reading.finish_with(e)
    end
    reading.finish_with(nil)
  end
end

# The messages that one step reads: counts and merges them, and says when they are enough.
class Reading
  def initialize(step, variables)
    @step = step
    @variables = variables
    @until = variables.fill(step['until'], pattern: true)
    @merged = ''.b
    @events = 0
    @position = Integer(variables.fill(step['positions_after'])) if step.key?('positions_after')
  end

  # Takes the next message; true if it is the last one to read.
  def take(message)
    message.events.each { |recorded| take_event(recorded) } if message.respond_to?(:events)
    @type = message.class
    # Messages that follow each other as bytes are merged when they are read.
    @merged << message.to_proto if keeps?
    return false if @until.nil?
    return @events >= @until['events'] if @until.key?('events')

    Pattern.difference(@until['message'], to_json(message)).nil?
  end

  # Checks what the step expects, after the last message.
  def finish
    count = @step.fetch('count', @events)
    raise Failure, "#{@events} events came, not #{count}" unless count == @events
    return unless keeps?

    answer = @type && to_json(@type.decode(@merged))
    Pattern.match(@variables.fill(@step['answer'], pattern: true), answer) if @step.key?('answer')
    @variables.save(@step['save'] || {}, answer)
  end

  # The same, after the end of the call, with an error or nil.
  def finish_with(error)
    raise Failure, "the stream ended before what was waited for: #{error&.message}" if @until

    check_end(@variables.fill(@step['status'], pattern: true) || { 'code' => 'OK' }, error)
    finish
  end

  private

  def keeps?
    @step.key?('answer') || @step.key?('save')
  end

  def to_json(message)
    JSON.parse(message.class.encode_json(message, emit_defaults: true))
  end

  def take_event(recorded)
    @events += 1
    return unless @position
    raise Failure, "position #{recorded.position} came after #{@position}" unless recorded.position == @position + 1

    @position += 1
  end

  def check_end(expected, error)
    code = error ? error.code : 0
    name = GRPC::Core::StatusCodes.constants.find { |one| GRPC::Core::StatusCodes.const_get(one) == code }.to_s
    unless name == expected['code']
      raise Failure, "the call ended with #{name}, not with #{expected['code']}: #{error&.details}"
    end

    check_details(expected, code, Martlet::ErrorDetails.new(error)) if expected.key?('reason')
  end

  def check_details(expected, code, details)
    reason = expected['reason']
    retryable = expected.fetch('retryable', false)
    info = details.info
    status = details.call_status
    retry_info = details.retry_info
    raise Failure, "the details are of the code #{details.code}, not of #{code}" unless details.code == code
    unless info && [info.reason, info.domain] == [reason, Martlet::ERROR_DOMAIN]
      raise Failure, "the ErrorInfo is not of #{reason}: #{info.inspect}"
    end
    unless status && [status.code, status.reason, status.retryable] == [code, reason, retryable]
      raise Failure, "the CallStatus is not of #{reason}: #{status.inspect}"
    end
    raise Failure, "retryable is #{retryable}, the RetryInfo #{retry_info.inspect}" if retry_info.nil? == retryable
    raise Failure, 'the RetryInfo has no delay' if retryable && !retry_info.retry_delay.to_f.positive?

    Pattern.match(expected['details'] || {}, to_json(status))
  end
end
