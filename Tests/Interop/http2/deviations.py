"""What the server is known to do otherwise, and why that does no harm. The suite fails where one of these has gone."""

from dataclasses import dataclass


@dataclass
class Deviation:
    """Of one test: the outcome that is seen instead, where it comes from, and why it does no harm."""

    instead: str
    cause: str
    harmless: str


DEVIATIONS = {
    "name_empty": Deviation(
        "GOAWAY COMPRESSION_ERROR", "swift-nio-http2's HPACK decoder refuses the name while it decodes the block.",
        "No client sends that."),
}
