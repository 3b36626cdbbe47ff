# A client of Martlet, with generated stubs; the parts between `task:` and `end` are those that Docs/CLIENTS.md shows.

require 'google/protobuf/well_known_types'
require 'google/rpc/error_details_pb'
require 'google/rpc/status_pb'
require 'grpc'
require 'json'
require 'martlet/v1/admin_services_pb'
require 'martlet/v1/append_services_pb'
require 'martlet/v1/query_services_pb'
require 'martlet/v1/status_pb'
require 'martlet/v1/subscribe_services_pb'
require 'securerandom'
require 'sqlite3'

# task: connect

# A connection to Martlet, for one tenant.
class Client
  include Martlet::V1

  # Calls wait until the channel has found a server.
  WAIT_FOR_READY = JSON.generate(methodConfig: [{ name: [{}], waitForReady: true }])

  # Presents the certificate, and takes the limit of what it receives from the server.
  def initialize(target, authority, certificate, key, tenant)
    @tenant = tenant
    credentials = GRPC::Core::ChannelCredentials.new(File.read(authority), File.read(key), File.read(certificate))
    arguments = {
      'grpc.service_config' => WAIT_FOR_READY,
      # A connection that has died silently is found within 40 s, also while only the server has something to say.
      'grpc.keepalive_time_ms' => 30_000,
      'grpc.keepalive_timeout_ms' => 10_000,
      'grpc.http2.max_pings_without_data' => 0
    }
    @admin = AdminService::Stub.new(target, credentials, channel_args: arguments)
    info = server_info
    bytes_max = info.limits.frame_bytes_max
    puts "connected as #{info.identity}, messages of up to #{bytes_max} bytes"
    arguments['grpc.max_receive_message_length'] = bytes_max
    channel = GRPC::ClientStub.setup_channel(nil, target, credentials, arguments)
    @admin, @appends, @queries, @subscriptions =
      [AdminService, AppendService, QueryService, SubscribeService].map do |service|
        service::Stub.new(target, credentials, channel_override: channel)
      end
  end

  def server_info
    @admin.get_server_info(GetServerInfoRequest.new, deadline: Time.now + 10)
  end

  # end

  # task: append

  # A UUIDv7. An event keeps its id however often it is sent.
  def self.new_id
    millis = Process.clock_gettime(Process::CLOCK_REALTIME, :millisecond)
    random = SecureRandom.bytes(10).bytes
    random[0] = random[0] & 0x0f | 0x70
    random[2] = random[2] & 0x3f | 0x80
    [millis].pack('Q>')[2..] + random.pack('C*')
  end

  def self.new_event(type, payload)
    Event.new(id: new_id, type: type, payload: JSON.generate(payload))
  end

  # Begins an order with two events: both are stored, or neither.
  def place_order(order)
    part = AggregateAppend.new(
      aggregate: AggregateName.new(type: 'order', id: order),
      expected: ExpectedVersion.new(none: true),
      events: [
        Client.new_event('OrderPlaced', { item: 'book', cents: 1200 }),
        Client.new_event('OrderPaid', { cents: 1200 })
      ]
    )
    @appends.append(AppendRequest.new(tenant: @tenant, aggregates: [part]), deadline: Time.now + 10)
  end

  # end

  # task: conflict

  # Appends one event to an order that has that version; "Retry safely" shows append_safely.
  def append(order, version, event)
    part = AggregateAppend.new(
      aggregate: AggregateName.new(type: 'order', id: order),
      expected: ExpectedVersion.new(exact: version),
      events: [event]
    )
    append_safely(AppendRequest.new(tenant: @tenant, aggregates: [part]))
  end

  # Gives the block an order's events, and appends the event that it answers. Has it decide again when somebody else has
  # appended in the meantime.
  def execute(order)
    history = []
    begin
      # The first time everything, later only what is new.
      history.concat(load(order, after_version: history.size))
      append(order, history.size, yield(history))
    rescue GRPC::Aborted => e
      conflict = Client.detail_of(e, CallStatus)&.conflicts&.first
      raise unless conflict

      puts "conflict: expected version #{conflict.expected.exact}, found #{conflict.actual}"
      retry
    end
  end

  # What the server says about a call's failure, of that type; nil if it says nothing.
  def self.detail_of(error, type)
    (error.to_rpc_status&.details || []).filter_map { |detail| detail.unpack(type) }.first
  end

  # end

  # task: retry

  # Sends the same request, with the same event ids, until the outcome is certain. If an earlier try was stored, the
  # server answers what it answered then, and stores nothing.
  def append_safely(request)
    failures = 0
    begin
      @appends.append(request, deadline: Time.now + 10)
    rescue GRPC::BadStatus => e
      raise unless Client.retryable?(e)

      puts "retry after #{e.class.name}"
      sleep(Client.pause_after(e, failures))
      failures += 1
      retry
    end
  end

  # Whether the same call may succeed when it is sent again. If the server has not said anything, the connection has
  # failed, or the deadline has passed.
  def self.retryable?(error)
    return !detail_of(error, Google::Rpc::RetryInfo).nil? if detail_of(error, CallStatus)

    error.is_a?(GRPC::Unavailable) || error.is_a?(GRPC::DeadlineExceeded)
  end

  # end

  # task: load

  # Reads an order's events, all from one consistent view.
  def load(order, **range)
    aggregate = AggregateName.new(type: 'order', id: order)
    request = LoadRequest.new(tenant: @tenant, aggregate: aggregate, **range)
    @queries.load(request, deadline: Time.now + 30).flat_map { |part| part.events.to_a }
  end

  # Loads an order as of a version, as of the position and the time of an append, and as it is now.
  def print_history(order, placed)
    {
      'as of version 1' => { to_version: 1 },
      'as of its position' => { as_of_position: placed.last_position },
      'as of its time' => { as_of_time_micros: placed.recorded_at_micros },
      'now' => {}
    }.each { |time, range| puts "#{time}: #{load(order, **range).size} events" }
  end

  # end

  # task: subscribe

  # The event that a subscriber has handled last.
  Place = Struct.new(:position, :event_id)
  START = Place.new(0, '').freeze

  # Gives the block each event after a place, once and in order, through lost connections and restarted servers. Ends
  # when the block breaks or raises, or with a failure that does not pass.
  def follow(last)
    failures = 0
    loop do
      call = @subscriptions.subscribe(subscription(last), return_op: true)
      call.execute.each do |message|
        message.events.each do |event|
          yield event
          last = Place.new(event.position, event.event.id)
          failures = 0
        end
      end
    rescue GRPC::BadStatus => e
      raise unless Client.retryable?(e)

      sleep(Client.pause_after(e, failures))
      failures += 1
      puts "resume after #{last.position}"
    ensure
      call&.cancel
    end
  end

  # By the id of the last event, the server sees whether its events are still those that the subscriber knows: the call
  # ends with HISTORY_CHANGED if not.
  def subscription(last)
    request = SubscribeRequest.new(tenant: @tenant, after_position: last.position)
    if last.position.positive?
      request.last_seen = SeenEvent.new(position: last.position, event_id: last.event_id)
    end
    request
  end

  # end

  # task: project

  SCHEMA = <<~SQL.freeze
    CREATE TABLE IF NOT EXISTS order_lines (position INTEGER, order_id BLOB, type TEXT);
    CREATE TABLE IF NOT EXISTS progress (id INTEGER PRIMARY KEY, position INTEGER, event_id BLOB);
    INSERT OR IGNORE INTO progress VALUES (1, 0, x'');
  SQL

  # Keeps a table in SQLite. What it writes for an event and the place after the event are one transaction, so a process
  # that dies at any moment goes on exactly there.
  def project(database)
    database.execute_batch(SCHEMA)
    last = Place.new(*database.get_first_row('SELECT position, event_id FROM progress'))
    puts "start after #{last.position}"
    follow(last) do |event|
      database.transaction do
        database.execute(
          'UPDATE progress SET position = ?, event_id = ? WHERE position < ?',
          [event.position, event.event.id, event.position]
        )
        raise 'another process has projected this event' unless database.changes == 1

        database.execute(
          'INSERT INTO order_lines VALUES (?, ?, ?)', [event.position, event.aggregate_id, event.event.type]
        )
      end
      yield event.position
    end
  end

  # end

  # task: drain

  # How long to wait after a failure, in seconds, partly by chance, so that not all clients come back at once. A server
  # that is drained finishes its calls and ends its streams with the reason DRAINING. That is no failure: the channel
  # looks for a server again by itself, and calls wait until it has found one.
  def self.pause_after(error, failures)
    if detail_of(error, CallStatus)&.reason == 'DRAINING'
      puts 'the server is draining'
      return 0
    end
    asked = detail_of(error, Google::Rpc::RetryInfo)&.retry_delay&.to_f || 0
    pause = [0.05 * 2**[failures, 6].min, asked].max
    pause / 2 + rand * pause
  end

  # Appends and follows at the same time, while servers come and go.
  def through_drain(order, count)
    followed = Thread.new do
      follow(START) do |event|
        puts "event #{event.position}"
        break if event.position == count
      end
    end
    count.times do |version|
      append(order, version, Client.new_event('LineAdded', {}))
      puts "appended version #{version + 1}"
    end
    followed.value
  end

  # end
end
