"""What the server is known to do otherwise, and why that does no harm. The suite fails where one of these has gone."""

from dataclasses import dataclass


@dataclass
class Deviation:
    """Of one test: the outcome that is seen instead, where it comes from, and why it does no harm."""

    instead: str
    cause: str
    harmless: str


LIBRARY = "swift-nio-http2 decides."
NO_TRAILERS = "Clients of gRPC send no trailers: a request ends with DATA."

DEVIATIONS = {
    "half_closed_headers": Deviation(
        "RST_STREAM PROTOCOL_ERROR", LIBRARY, "The stream ends as it should, with another code."),
    "closed_headers": Deviation(
        "GOAWAY PROTOCOL_ERROR", LIBRARY, "The connection ends as it should, with another code."),
    "reset_headers": Deviation(
        "GOAWAY PROTOCOL_ERROR", f"{LIBRARY} It does not tell streams that the peer has reset from others.",
        f"{NO_TRAILERS} A client that has reset a stream sends nothing more on it."),
    "after_servers_reset_headers": Deviation(
        "GOAWAY PROTOCOL_ERROR", f"{LIBRARY} It ignores all frames but HEADERS on a stream that it has reset.", NO_TRAILERS),
    "block_after_servers_reset": Deviation(
        "GOAWAY PROTOCOL_ERROR", "As the one above.", "The table is right: the connection ends before the next call."),
    "too_many_streams": Deviation(
        "GOAWAY PROTOCOL_ERROR", f"{LIBRARY} It ends the connection, not the stream alone.",
        "Clients keep to SETTINGS_MAX_CONCURRENT_STREAMS, and let further calls wait."),
    "too_many_streams_without_ack": Deviation(
        "GOAWAY PROTOCOL_ERROR", f"{LIBRARY} Until SETTINGS are acknowledged it allows 100 streams.",
        "Clients open at most 100 streams before they know the setting, as RFC 9113 (6.5.2) advises servers to allow, or wait "
        "for it."),
    "priority_of_4_bytes": Deviation(
        "GOAWAY FRAME_SIZE_ERROR", f"{LIBRARY} 5.4.1 lets a server end the connection for the fault of a stream.",
        "No client sends that."),
    "priority_of_itself": Deviation(
        "GOAWAY PROTOCOL_ERROR", f"{LIBRARY} It keeps to RFC 7540 (5.3.1), and ends the connection, not the stream alone.",
        "No client sends that."),
    "name_empty": Deviation(
        "GOAWAY COMPRESSION_ERROR", f"{LIBRARY} It refuses the name while it decodes the block.", "No client sends that."),
}
