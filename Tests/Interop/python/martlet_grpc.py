"""Martlet over grpcio: a channel, the stubs by the names of their services, and what a failed call tells."""

import grpc
from google.protobuf import descriptor_pb2
from google.rpc import error_details_pb2, status_pb2
from interop_grpc.health.v1 import health_pb2, health_pb2_grpc
from interop_grpc.reflection.v1 import reflection_pb2, reflection_pb2_grpc
from interop_grpc.reflection.v1alpha import reflection_pb2 as reflection_alpha_pb2
from interop_grpc.reflection.v1alpha import reflection_pb2_grpc as reflection_alpha_pb2_grpc
from martlet.v1 import admin_pb2, admin_pb2_grpc, append_pb2, append_pb2_grpc, consumer_pb2, consumer_pb2_grpc
from martlet.v1 import query_pb2, query_pb2_grpc, schedule_pb2, schedule_pb2_grpc, settings_pb2, settings_pb2_grpc
from martlet.v1 import snapshot_pb2, snapshot_pb2_grpc, status_pb2 as call_status_pb2
from martlet.v1 import subscribe_pb2, subscribe_pb2_grpc

ERROR_DOMAIN = "martlet.v1"

# Each file of messages, with the file of its stubs.
MODULES = [
    (admin_pb2, admin_pb2_grpc),
    (append_pb2, append_pb2_grpc),
    (consumer_pb2, consumer_pb2_grpc),
    (query_pb2, query_pb2_grpc),
    (schedule_pb2, schedule_pb2_grpc),
    (settings_pb2, settings_pb2_grpc),
    (snapshot_pb2, snapshot_pb2_grpc),
    (subscribe_pb2, subscribe_pb2_grpc),
    (health_pb2, health_pb2_grpc),
    (reflection_pb2, reflection_pb2_grpc),
    (reflection_alpha_pb2, reflection_alpha_pb2_grpc),
]


def credentials(ca):
    """Credentials that trust the certificates of that authority, a file in PEM."""
    with open(ca, "rb") as file:
        return grpc.ssl_channel_credentials(root_certificates=file.read())


class Method:
    """A method of a service: how it is called, and with what."""

    def __init__(self, descriptor, call, request_class):
        self.call = call
        self.request_class = request_class
        described = descriptor_pb2.MethodDescriptorProto()
        descriptor.CopyToProto(described)
        self.streams_requests = described.client_streaming
        self.streams_responses = described.server_streaming


def methods(channel):
    """The methods of all services by their full names, over a channel of grpc or of grpc.aio."""
    found = {}
    for messages, stubs in MODULES:
        for service in messages.DESCRIPTOR.services_by_name.values():
            stub = getattr(stubs, service.name + "Stub")(channel)
            for method in service.methods:
                found[f"{service.full_name}/{method.name}"] = Method(
                    method, getattr(stub, method.name), method.input_type._concrete_class
                )
    return found


class ErrorDetails:
    """What `grpc-status-details-bin` holds of a call that failed; None where it holds nothing of the kind."""

    def __init__(self, trailing_metadata):
        self.status = self.error_info = self.retry_info = self.call_status = None
        for key, value in trailing_metadata or ():
            if key == "grpc-status-details-bin":
                self.status = status_pb2.Status.FromString(value)
        for detail in self.status.details if self.status else ():
            if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                self.error_info = error_details_pb2.ErrorInfo.FromString(detail.value)
            elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
                self.retry_info = error_details_pb2.RetryInfo.FromString(detail.value)
            elif detail.Is(call_status_pb2.CallStatus.DESCRIPTOR):
                self.call_status = call_status_pb2.CallStatus.FromString(detail.value)
