"""What a failed call raises, by the stable reasons of Martlet."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import grpc
from google.protobuf.message import DecodeError

from .v1 import status_pb2


class MartletError(Exception):
    """A call failed.

    `reason` is a stable name in capitals (`VERSION_CONFLICT`), `message` a text for a person, which is not stable.
    `retryable` says whether the same call may succeed if it is sent again, `retry_after` after how many seconds.
    `status` holds the server's typed details, `martlet.v1.CallStatus`, where it sent them. `may_be_done` is set where
    the call may have been carried out all the same.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        retryable: bool = False,
        retry_after: float | None = None,
        status: status_pb2.CallStatus | None = None,
        may_be_done: bool = False,
    ) -> None:
        super().__init__(f"{reason}: {message}" if reason else message)
        self.reason = reason
        self.message = message
        self.code = code
        self.retryable = retryable
        self.retry_after = retry_after
        self.status = status if status is not None else status_pb2.CallStatus()
        self.may_be_done = may_be_done


class InvalidRequest(MartletError):
    """The request is not allowed as it is: INVALID_FIELD, INVALID_JSON and others."""


class LimitExceeded(MartletError):
    """Something is larger than a limit: LIMIT_EXCEEDED."""

    @property
    def limit(self) -> str:
        """The name of the limit; empty where the server did not say."""
        return str(self.status.limit.name)

    @property
    def allowed(self) -> int:
        """The limit itself."""
        return int(self.status.limit.limit)

    @property
    def actual(self) -> int:
        """What came."""
        return int(self.status.limit.actual)


class ResourceExhausted(MartletError):
    """A share of the server, or its storage, is used up."""


class NotFound(MartletError):
    """What the call names does not exist."""


class AlreadyExists(MartletError):
    """What the call makes exists already."""


@dataclass(frozen=True)
class ReusedId:
    """An event id that is stored already, with other content or in another place."""

    event_id: uuid.UUID
    aggregate_type: str
    aggregate_id: uuid.UUID
    version: int
    position: int


class EventIdReused(AlreadyExists):
    """Event ids are stored already with other content, in another place or order; nothing was written."""

    @property
    def reused(self) -> list[ReusedId]:
        """Where they are stored; `total` says how many there are."""
        return [
            ReusedId(
                uuid.UUID(bytes=each.event_id),
                each.aggregate.type,
                uuid.UUID(bytes=each.aggregate.id),
                each.version,
                each.position,
            )
            for each in self.status.reused_event_ids
        ]

    @property
    def total(self) -> int:
        """How many there are in all."""
        return self.status.reused_event_ids_total or len(self.status.reused_event_ids)


class Aborted(MartletError):
    """Somebody else was faster; decide again."""


@dataclass(frozen=True)
class Conflict:
    """An expected version that did not hold."""

    aggregate_type: str
    aggregate_id: uuid.UUID
    #: ANY, NONE, EXISTS or a version.
    expected: Any
    #: The version that the aggregate has; 0 without events.
    actual: int
    #: On request, the events after the expected version.
    events: tuple[Any, ...]
    #: There are more of these events.
    events_truncated: bool


class VersionConflict(Aborted):
    """An aggregate does not have the version that the append expected; nothing was written."""

    @property
    def conflicts(self) -> list[Conflict]:
        """Every aggregate of the call whose expected version did not hold; `total` says how many there are."""
        from . import answers

        return [answers.conflict(each) for each in self.status.conflicts]

    @property
    def total(self) -> int:
        """How many there are in all."""
        return self.status.conflicts_total or len(self.status.conflicts)

    @property
    def actual(self) -> int:
        """The version of the first of them."""
        return int(self.status.conflicts[0].actual) if self.status.conflicts else 0


class FailedPrecondition(MartletError):
    """The state of what the call is about does not allow it."""


class HistoryChanged(FailedPrecondition):
    """The storage has another past than the one that the caller has seen, as after a restore."""

    @property
    def comparable_position(self) -> int:
        """The highest position up to which nothing has changed; 0 where nothing is known."""
        return int(self.status.history_change.comparable_position)


class UpcastFailed(FailedPrecondition):
    """An upcaster fails on an event; `failure` says which, and where."""

    @property
    def failure(self) -> status_pb2.UpcastFailure:
        """The position, event id, step, operation and path."""
        return self.status.upcast_failure


class OutOfRange(MartletError):
    """A position beyond the head, or a time still to come."""


class PermissionDenied(MartletError):
    """The client's certificate does not give the right."""


class Unauthenticated(PermissionDenied):
    """The client presented no certificate that the server accepts."""


class OutcomeUnknown(MartletError):
    """A write may be stored or not. Send it again with the same event ids, whenever: nothing is stored twice."""

    @classmethod
    def after(cls, error: MartletError) -> OutcomeUnknown:
        """For a write whose attempts ended with that error."""
        return cls(
            f"the write may be stored; send it again with the same event ids ({error})",
            reason="OUTCOME_UNKNOWN",
            code=error.code,
            retryable=True,
            retry_after=error.retry_after,
            may_be_done=True,
        )


class DeadlineExceeded(MartletError):
    """The call's time has passed."""


class Cancelled(MartletError):
    """The call was cancelled."""


class Unavailable(MartletError):
    """The server or its storage cannot be reached, or is shutting down."""


class Unimplemented(MartletError):
    """The server does not know the call."""


class Internal(MartletError):
    """The server has a defect."""


class StorageCorrupted(MartletError):
    """Stored data is damaged."""


class ClientClosed(MartletError):
    """The client was closed."""

    def __init__(self) -> None:
        super().__init__("the client is closed", reason="CLIENT_CLOSED", code=grpc.StatusCode.CANCELLED)


_BY_REASON: dict[str, type[MartletError]] = {
    "EVENT_ID_REUSED": EventIdReused,
    "HISTORY_CHANGED": HistoryChanged,
    "LIMIT_EXCEEDED": LimitExceeded,
    "OUTCOME_UNKNOWN": OutcomeUnknown,
    "UPCAST_FAILED": UpcastFailed,
    "VERSION_CONFLICT": VersionConflict,
}

_Code = grpc.StatusCode
_BY_CODE: dict[grpc.StatusCode, type[MartletError]] = {
    _Code.CANCELLED: Cancelled,
    _Code.INVALID_ARGUMENT: InvalidRequest,
    _Code.DEADLINE_EXCEEDED: DeadlineExceeded,
    _Code.NOT_FOUND: NotFound,
    _Code.ALREADY_EXISTS: AlreadyExists,
    _Code.PERMISSION_DENIED: PermissionDenied,
    _Code.RESOURCE_EXHAUSTED: ResourceExhausted,
    _Code.FAILED_PRECONDITION: FailedPrecondition,
    _Code.ABORTED: Aborted,
    _Code.OUT_OF_RANGE: OutOfRange,
    _Code.UNIMPLEMENTED: Unimplemented,
    _Code.INTERNAL: Internal,
    _Code.UNAVAILABLE: Unavailable,
    _Code.DATA_LOSS: StorageCorrupted,
    _Code.UNAUTHENTICATED: Unauthenticated,
}
_CODE_BY_NUMBER: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

#: The reason of a call that ended without the server's word on it.
CONNECTION_LOST = "CONNECTION_LOST"
#: The reason of an answer that is longer than the client's limit.
ANSWER_TOO_LARGE = "ANSWER_TOO_LARGE"

_LOST = {_Code.UNAVAILABLE, _Code.UNKNOWN, _Code.CANCELLED}
_NEVER_SENT = ("failed to connect to all addresses", "DNS resolution failed", "connections to all backends failing")
_UNTRUSTED = ("CERTIFICATE_VERIFY_FAILED", "certificate verify failed", "is not in peer certificate")


class Details:
    """What `grpc-status-details-bin` holds: Martlet's status, and when to try again."""

    KEY: ClassVar[str] = "grpc-status-details-bin"

    def __init__(self, trailers: Any) -> None:
        self.status: status_pb2.CallStatus | None = None
        self.retry_after: float | None = None
        for key, value in trailers or ():
            if key == self.KEY:
                self._read(value)

    def _read(self, encoded: bytes) -> None:
        # google.rpc.Status: field 3 holds the details, each a google.protobuf.Any. Read by hand: the modules of
        # google.rpc are in no package that this one needs otherwise.
        for number, detail in _fields(encoded):
            if number != 3 or not isinstance(detail, bytes):
                continue
            parts = dict(_fields(detail))
            url, value = parts.get(1, b""), parts.get(2, b"")
            if not isinstance(url, bytes) or not isinstance(value, bytes):
                continue
            name = url.rpartition(b"/")[2]
            if name == b"martlet.v1.CallStatus":
                with contextlib.suppress(DecodeError):
                    self.status = status_pb2.CallStatus.FromString(value)
            elif name == b"google.rpc.RetryInfo":
                delay = dict(_fields(value)).get(1, b"")
                duration = dict(_fields(delay)) if isinstance(delay, bytes) else {}
                seconds, nanos = duration.get(1, 0), duration.get(2, 0)
                if isinstance(seconds, int) and isinstance(nanos, int):
                    self.retry_after = seconds + nanos / 1e9


def _fields(encoded: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message: numbers with integers or bytes."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = encoded[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    try:
        while at < len(encoded):
            key = varint()
            kind = key & 7
            if kind == 0:
                yield key >> 3, varint()
            else:
                length = {1: 8, 2: -1, 5: 4}[kind]
                if length < 0:
                    length = varint()
                if at + length > len(encoded):
                    return
                yield key >> 3, encoded[at : at + length]
                at += length
    except (IndexError, KeyError):
        return


def of_status(status: status_pb2.CallStatus, retry_after: float | None = None) -> MartletError:
    """The error for a status that the server sent."""
    code = _CODE_BY_NUMBER.get(status.code, grpc.StatusCode.UNKNOWN)
    kind = _BY_REASON.get(status.reason) or _BY_CODE.get(code, MartletError)
    return kind(
        status.message,
        reason=status.reason,
        code=code,
        retryable=status.retryable,
        retry_after=retry_after,
        status=status,
        may_be_done=status.reason in ("OUTCOME_UNKNOWN", "DEADLINE_EXCEEDED", "CANCELLED"),
    )


def of_rpc(error: Any) -> MartletError:
    """The error for a `grpc.RpcError` or `grpc.aio.AioRpcError`; its `__cause__` should be that."""
    code: grpc.StatusCode = error.code()
    message: str = error.details() or ""
    details = Details(error.trailing_metadata())
    if details.status is not None:
        # The text travels once, as grpc-message.
        details.status.message = details.status.message or message
        return of_status(details.status, details.retry_after)
    if any(text in message for text in _UNTRUSTED):
        return Unavailable(f"the server's certificate is not trusted: {message}", reason="UNTRUSTED_SERVER", code=code)
    if code is _Code.RESOURCE_EXHAUSTED and "larger than max" in message:
        return LimitExceeded(message, reason=ANSWER_TOO_LARGE, code=code)
    if code is _Code.DEADLINE_EXCEEDED:
        return DeadlineExceeded(message, reason="DEADLINE_EXCEEDED", code=code, retryable=True, may_be_done=True)
    if code in _LOST or (code is _Code.INTERNAL and "RST_STREAM" in message):
        sent = not any(text in message for text in _NEVER_SENT)
        return Unavailable(message, reason=CONNECTION_LOST, code=code, retryable=True, may_be_done=sent)
    return _BY_CODE.get(code, MartletError)(message, reason=code.name, code=code)


def certificate_required(error: MartletError) -> MartletError:
    """The error for a server that closes the connection of a client without a certificate."""
    refused = Unauthenticated(
        f"the server takes clients with a certificate only: set MARTLET_CERT and MARTLET_KEY ({error.message})",
        reason="CERTIFICATE_REQUIRED",
        code=_Code.UNAUTHENTICATED,
    )
    refused.__cause__ = error
    return refused


def server_silent() -> MartletError:
    """The error for a call whose server has sent nothing for too long."""
    return Unavailable("the server is silent", reason="SERVER_SILENT", code=_Code.UNAVAILABLE, retryable=True)


def stream_ended() -> MartletError:
    """The error for a stream that the server ended with OK too early."""
    return Unavailable(
        "the server ended the stream",
        reason=CONNECTION_LOST,
        code=_Code.UNAVAILABLE,
        retryable=True,
        may_be_done=True,
    )
