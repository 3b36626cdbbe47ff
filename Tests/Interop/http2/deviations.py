"""What the server is known to do otherwise, and why that does no harm. The suite fails where one of these has gone."""

from dataclasses import dataclass


@dataclass
class Deviation:
    """Of one test: the outcome that is seen instead, where it comes from, and why it does no harm."""

    instead: str
    cause: str
    harmless: str


NO_TRAILERS = "Clients of gRPC send no trailers: a request ends with DATA."

DEVIATIONS = {
    "after_servers_reset_headers": Deviation(
        "GOAWAY STREAM_CLOSED", "Only swift-nio-http2 can decode the fields, and it ends the connection for them.",
        NO_TRAILERS),
    "block_after_servers_reset": Deviation(
        "GOAWAY STREAM_CLOSED", "As HEADERS on a stream that the server has just reset (5.1).",
        "The tables cannot differ, since the connection ends before the next call."),
    "name_empty": Deviation(
        "GOAWAY COMPRESSION_ERROR", "swift-nio-http2 refuses the name while it decodes the block.",
        "No client sends that."),
}
