"""Workers on consumers: named places in a tenant's events that the server keeps."""

from ._async import AsyncConsumer, AsyncWorker
from ._consumer import Consumer, Worker
from ._model import (
    FIRST,
    HEAD,
    BlockedKey,
    ConsumerState,
    Definition,
    Delivery,
    HandlerError,
    Park,
    Retry,
    SlotState,
    Start,
    StopSlot,
)

__all__ = [
    "FIRST",
    "HEAD",
    "AsyncConsumer",
    "AsyncWorker",
    "BlockedKey",
    "Consumer",
    "ConsumerState",
    "Definition",
    "Delivery",
    "HandlerError",
    "Park",
    "Retry",
    "SlotState",
    "Start",
    "StopSlot",
    "Worker",
]
