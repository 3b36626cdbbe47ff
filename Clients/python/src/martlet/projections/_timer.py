"""Looks after handlers: interrupts those that take too long, and notices those that go on nevertheless."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator
from typing import Any

from ..workers import Delivery
from ._database import Session


class TooLong(Exception):
    """A handler has had its time."""


class StuckHandler(Exception):
    """A handler did not return when it was interrupted. Python cannot stop its thread: end the process, and have it
    started again. The event's key is parked."""

    def __init__(self, delivery: Delivery, seconds: float) -> None:
        """For that delivery, whose handler has been at work for so long."""
        self.delivery = delivery
        key = delivery.key.decode(errors="replace")
        super().__init__(
            f"the handler of the event at position {delivery.event.position}, key {key}, slot {delivery.slot}, has not "
            f"returned after {seconds:.1f} s, although it was interrupted: end the process"
        )


@dataclasses.dataclass
class Handling:
    """A handler at work, and the session of its transaction."""

    delivery: Delivery
    session: Session[Any]
    since: float = dataclasses.field(default_factory=time.monotonic)
    is_overdue: bool = False
    is_stuck: bool = False


class HandlerTimer:
    """Looks after the handlers of one projection. Used by several threads."""

    def __init__(self, timeout: float, grace: float) -> None:
        """A timer that has nothing to look after yet.

        Args:
            timeout: for how many seconds a handler may be at work.
            grace: how many it has, once it is interrupted, to return.
        """
        if timeout <= 0 or grace < 0:
            raise ValueError("handler_timeout must be above 0, handler_grace at least 0")
        self._timeout = timeout
        self._grace = grace
        self._lock = threading.Lock()
        self._open: dict[int, Handling] = {}

    @contextlib.contextmanager
    def handling(self, one: Handling) -> Iterator[None]:
        """Around a handler.

        Raises:
            TooLong: it took too long, whatever it has made of being interrupted.
        """
        with self._lock:
            self._open[id(one)] = one
        try:
            yield
        except Exception as error:
            self._end(one, error)
            raise
        except BaseException:
            with self._lock:
                del self._open[id(one)]
            raise
        else:
            self._end(one, None)

    def _end(self, one: Handling, error: Exception | None) -> None:
        with self._lock:
            del self._open[id(one)]
            if one.is_overdue:
                raise TooLong(f"no answer from the handler within {self._timeout:g} s") from error

    def look_after(self) -> Handling | None:
        """Interrupts handlers that take too long. Returns one that is stuck, once."""
        now = time.monotonic()
        with self._lock:
            for one in self._open.values():
                elapsed = now - one.since
                if elapsed >= self._timeout + self._grace and not one.is_stuck:
                    one.is_stuck = True
                    return one
                if elapsed >= self._timeout and not one.is_overdue:
                    one.is_overdue = True
                    # Under the lock, so that the handler's transaction cannot end in between.
                    one.session.interrupt()
        return None

    def elapsed(self, one: Handling) -> float:
        """For how many seconds a handler has been at work."""
        return time.monotonic() - one.since
