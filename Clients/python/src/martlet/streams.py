"""Streams that go on after their connection has ended, as machines without I/O.

A machine says which call to make (`request`), and turns each message into items (`receive`). When the call fails and
may be tried again, the same machine makes the request that goes on where the last message ended.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

from . import answers, requests
from .errors import HistoryChanged, Internal, MartletError
from .methods import LOAD, READ, SUBSCRIBE, Method
from .model import (
    After,
    CaughtUp,
    Checkpoint,
    Event,
    Events,
    FellBehind,
    Filter,
    History,
    Place,
    Signal,
    Snapshot,
    UpcastersChanged,
    Upcasting,
)
from .times import to_micros
from .v1 import query_pb2, subscribe_pb2

Item = TypeVar("Item")


class Machine(Generic[Item]):
    """What a stream does: see the module's text."""

    method: Method[Any, Any]
    #: The call ends only by an error: when the server ends it with OK, it is opened again.
    endless = False
    #: The stream has come so far that it may wait for a server for ever.
    patient = False
    #: Messages make the time for the call begin anew.
    advances = True

    def request(self) -> Any:
        """The request of the next attempt."""
        raise NotImplementedError

    def receive(self, message: Any) -> Sequence[Item]:
        """The items of a message."""
        raise NotImplementedError

    def explain(self, error: MartletError) -> MartletError:
        """The error that the stream ends with, when a call ended with that one."""
        return error


class Loading(Machine[Event]):
    """A load of one aggregate. A second attempt starts over: the first one's events are dropped."""

    method = LOAD
    advances = False

    def __init__(self, request: query_pb2.LoadRequest) -> None:
        self._request = request
        self._start_over()

    def _start_over(self) -> None:
        self._events: list[Event] = []
        self._snapshot: Snapshot | None = None
        self._view = query_pb2.LoadView()

    def request(self) -> query_pb2.LoadRequest:
        self._start_over()
        return self._request

    def receive(self, message: query_pb2.LoadResponse) -> Sequence[Event]:
        if message.HasField("view"):
            self._view.CopyFrom(message.view)
        if message.HasField("snapshot"):
            self._snapshot = answers.snapshot(message.snapshot)
        self._events.extend(map(answers.event, message.events))
        return ()

    def history(self) -> History:
        """What was loaded, after the stream has ended."""
        return History(
            events=tuple(self._events),
            snapshot=self._snapshot,
            version=self._view.version,
            position=self._view.position,
            snapshots_skipped=self._view.snapshots_skipped,
        )


class Reading(Machine[Event]):
    """A read of a tenant's events, which goes on after the last event, within the range that the first part named."""

    method = READ

    def __init__(self, request: query_pb2.ReadRequest) -> None:
        self._request = request
        self._backward = request.direction == query_pb2.DIRECTION_BACKWARD
        self._left = request.events_max
        self._last: Event | None = None
        self._overlaps = False

    def request(self) -> query_pb2.ReadRequest:
        request = query_pb2.ReadRequest()
        request.CopyFrom(self._request)
        self._overlaps = self._last is not None
        if self._last is not None:
            # The last event is read once more: it must be the same one.
            if self._backward:
                request.to_position = self._last.position
            else:
                request.after_position = self._last.position - 1
            if request.events_max:
                request.events_max = self._left + 1
        return request

    def receive(self, message: query_pb2.ReadResponse) -> Sequence[Event]:
        if message.HasField("view") and self._last is None:
            self._request.to_position = message.view.to_position
        events = [answers.event(each) for each in message.events]
        if self._overlaps and events and self._last is not None:
            self._overlaps = False
            if events[0].position == self._last.position:
                if events[0].id != self._last.id:
                    raise HistoryChanged(
                        f"another event is stored at position {self._last.position} now", reason="HISTORY_CHANGED"
                    )
                events = events[1:]
        if events:
            self._last = events[-1]
            self._left -= len(events)
        return events


class Subscribing(Machine[Signal]):
    """A subscription, which goes on after the last position and the last event that it has seen."""

    method = SUBSCRIBE
    endless = True

    def __init__(
        self,
        tenant: uuid.UUID,
        *,
        after: After = 0,
        from_time: datetime | None = None,
        from_head: bool = False,
        which: Filter | None = None,
        upcasting: Upcasting | None = None,
        heartbeat: float,
    ) -> None:
        if (after != 0) + (from_time is not None) + from_head > 1:
            raise ValueError("a subscription has one start: after, from_time or from_head")
        self._base = subscribe_pb2.SubscribeRequest(
            tenant=tenant.bytes,
            filter=requests.event_filter(which),
            upcasting=requests.upcasting(upcasting),
            heartbeat_millis=max(100, int(heartbeat * 1000)),
        )
        self._has_filter = which is not None
        self._seen: Place | None = None
        #: None: the start is a time or the head, and the server has not yet said which position that is.
        self._position: int | None = None
        if isinstance(after, Event):
            after = Place.of(after)
        if isinstance(after, Place):
            self._seen, self._position = after, after.position
        elif from_time is not None:
            self._base.from_time_micros = to_micros(from_time)
        elif from_head:
            self._base.from_head = True
        else:
            if after < 0:
                raise ValueError(f"a position is 0 or more, not {after}")
            self._position = after

    @property
    def position(self) -> int | None:
        """Everything up to this position was delivered or did not match; None before the start is known."""
        return self._position

    def request(self) -> subscribe_pb2.SubscribeRequest:
        request = subscribe_pb2.SubscribeRequest()
        request.CopyFrom(self._base)
        if self._position is not None:
            request.after_position = self._position
            if self._seen is not None:
                request.last_seen.position = self._seen.position
                request.last_seen.event_id = self._seen.event_id.bytes
        return request

    def receive(self, message: subscribe_pb2.SubscribeResponse) -> Sequence[Signal]:
        self.patient = True
        head = answers.head(message.head)
        if message.events:
            return (Events(self._take(message), head),)
        kind = message.WhichOneof("signal")
        if kind is None:
            return ()
        if kind == "started":
            self._position = max(self._position or 0, message.started.after_position)
            return ()
        position: int = getattr(message, kind).position
        self._position = max(self._position or 0, position)
        if kind == "caught_up":
            return (CaughtUp(position, head),)
        if kind == "fell_behind":
            return (FellBehind(position, head),)
        if kind == "upcasters_changed":
            return (UpcastersChanged(position, head, message.upcasters_changed.revision),)
        return (Checkpoint(position, head),)

    def _take(self, message: subscribe_pb2.SubscribeResponse) -> tuple[Event, ...]:
        last = self._position or 0
        events = tuple(answers.event(each) for each in message.events)
        for event in events:
            if event.position <= last or (not self._has_filter and event.position != last + 1):
                raise Internal(
                    f"the server delivered position {event.position} after position {last}", reason="OUT_OF_ORDER"
                )
            last = event.position
        self._position, self._seen = last, Place.of(events[-1])
        return events

    def explain(self, error: MartletError) -> MartletError:
        # The server has named this position before, so a head below it is another past.
        if self.patient and error.reason == "POSITION_BEYOND_HEAD":
            changed = HistoryChanged(error.message, reason="HISTORY_CHANGED", code=error.code)
            changed.__cause__ = error
            return changed
        return error


class Following(Machine[Event]):
    """A subscription of which only the events are handed out."""

    method = SUBSCRIBE
    endless = True

    def __init__(self, subscribing: Subscribing) -> None:
        self._subscribing = subscribing

    @property
    def patient(self) -> bool:  # type: ignore[override]
        return self._subscribing.patient

    def request(self) -> subscribe_pb2.SubscribeRequest:
        return self._subscribing.request()

    def receive(self, message: subscribe_pb2.SubscribeResponse) -> Sequence[Event]:
        for signal in self._subscribing.receive(message):
            if isinstance(signal, Events):
                return signal.events
        return ()

    def explain(self, error: MartletError) -> MartletError:
        return self._subscribing.explain(error)
