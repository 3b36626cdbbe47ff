# The tasks of Docs/CLIENTS.md with grpc for Ruby; Tests/Interop/run_tasks.py starts this once for each of them:
#
#     tasks.rb TARGET CA CERTIFICATE KEY TENANT TASK [COUNT [DATABASE]]

require 'client'

$stdout.sync = true
target, authority, certificate, key, tenant, task, count, path = ARGV
raise 'usage: tasks.rb TARGET CA CERTIFICATE KEY TENANT TASK [COUNT [DATABASE]]' unless task

tenant = [tenant.delete('-')].pack('H*')
client = Client.new(target, authority, certificate, key, tenant)
count = count.to_i
order = Client.new_id

case task
when 'connect'
  raise 'the tenant is not the certificate\'s' unless client.server_info.tenants.include?(tenant)
when 'append'
  response = client.place_order(order)
  appended = response.aggregates.first
  puts "appended versions #{appended.first_version} to #{appended.last_version} at positions " \
       "#{response.first_position} to #{response.last_position}"
when 'conflict'
  client.append(order, 0, Client.new_event('OrderPlaced', { cents: 1200 }))
  tries = 0
  # Somebody else appends between the load and the append of the first try.
  response = client.execute(order) do |history|
    client.append(order, 1, Client.new_event('OrderPaid', { cents: 1200 })) if (tries += 1) == 1
    Client.new_event('OrderShipped', { after: history.size })
  end
  puts "appended version #{response.aggregates.first.last_version}"
when 'retry'
  # The answer to the first try does not arrive. A call before it, so that the connection is there.
  client.server_info
  puts 'ready'
  $stdin.readline
  response = client.append(order, 0, Client.new_event('OrderPlaced', { cents: 1200 }))
  puts "stored as version #{response.aggregates.first.last_version}, replayed: #{response.replayed}"
when 'load'
  placed = client.place_order(order)
  client.append(order, 2, Client.new_event('OrderShipped', {}))
  client.print_history(order, placed)
when 'subscribe'
  client.follow(Client::START) do |event|
    puts "event #{event.position}"
    break if event.position == count
  end
when 'project'
  SQLite3::Database.new(path) do |database|
    client.project(database) do |position|
      puts "projected #{position}"
      break if position == count
    end
  end
when 'drain' then client.through_drain(order, count)
else raise "there is no task #{task}"
end
