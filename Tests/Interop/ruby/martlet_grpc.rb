# Martlet over grpc: stubs, their methods by name, and what a failed call tells.

require 'google/rpc/error_details_pb'
require 'google/rpc/status_pb'
require 'grpc'
require 'grpc/health/v1/health_services_pb'
require 'grpc/reflection/v1/reflection_services_pb'
require 'grpc/reflection/v1alpha/reflection_services_pb'
require 'json'
require 'martlet/v1/admin_services_pb'
require 'martlet/v1/append_services_pb'
require 'martlet/v1/consumer_services_pb'
require 'martlet/v1/query_services_pb'
require 'martlet/v1/schedule_services_pb'
require 'martlet/v1/settings_services_pb'
require 'martlet/v1/snapshot_services_pb'
require 'martlet/v1/status_pb'
require 'martlet/v1/subscribe_services_pb'

module Martlet
  ERROR_DOMAIN = 'martlet.v1'.freeze

  SERVICES = [
    V1::AdminService, V1::AppendService, V1::ConsumerService, V1::QueryService, V1::ScheduleService,
    V1::SettingsService, V1::SnapshotService, V1::SubscribeService, Grpc::Health::V1::Health,
    Grpc::Reflection::V1::ServerReflection, Grpc::Reflection::V1alpha::ServerReflection
  ].freeze

  # A server that has just been started again may not be there yet: calls wait for it.
  WAIT_FOR_READY = JSON.generate(methodConfig: [{ name: [{}], waitForReady: true }])

  # A method of a service.
  Method = Struct.new(:stub, :name, :description) do
    def request_class
      description.input.is_a?(GRPC::RpcDesc::Stream) ? description.input.type : description.input
    end

    def streams_answers?
      description.server_streamer? || description.bidi_streamer?
    end

    # Begins a call; the operation answers a message or an enumerator of messages when it is executed.
    def operation(request, deadline)
      request = [request] if description.bidi_streamer?
      stub.public_send(name, request, deadline: deadline, return_op: true)
    end
  end

  # The methods of all services by their full names, over one channel that trusts the authority in the file.
  def self.methods_of(target, authority)
    credentials = GRPC::Core::ChannelCredentials.new(File.read(authority))
    channel = GRPC::ClientStub.setup_channel(nil, target, credentials, 'grpc.service_config' => WAIT_FOR_READY)
    SERVICES.each_with_object({}) do |service, found|
      stub = service::Stub.new(target, credentials, channel_override: channel)
      service::Service.rpc_descs.each do |name, description|
        method = Method.new(stub, GRPC::GenericService.underscore(name.to_s), description)
        found["#{service::Service.service_name}/#{name}"] = method
      end
    end
  end

  # What `grpc-status-details-bin` holds of a call that failed; members are nil where it holds nothing of the kind.
  class ErrorDetails
    attr_reader :code, :info, :retry_info, :call_status

    def initialize(error)
      status = error.to_rpc_status
      @code = status&.code
      (status&.details || []).each do |any|
        @info ||= any.unpack(Google::Rpc::ErrorInfo)
        @retry_info ||= any.unpack(Google::Rpc::RetryInfo)
        @call_status ||= any.unpack(V1::CallStatus)
      end
    end
  end
end
