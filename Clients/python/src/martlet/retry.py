"""When a call is sent again: pure decisions over errors and the time, without I/O."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from .errors import MartletError, OutcomeUnknown


@dataclass(frozen=True)
class RetryPolicy:
    """How failed calls are tried again: after a random wait between 0 and a bound that doubles (full jitter)."""

    #: The bound before the second attempt, in seconds.
    first_wait: float = 0.05
    #: The largest bound, in seconds.
    longest_wait: float = 2.0
    #: Monotonic time in seconds.
    clock: Callable[[], float] = time.monotonic
    #: A number from 0 up to 1.
    random: Callable[[], float] = random.random
    #: Replaces waiting in tests; takes the seconds.
    sleep: Callable[[float], None] | None = None


class Attempts:
    """The attempts of one call.

    `failed` answers how long to wait before the next attempt, or raises what the call ends with. A call that is not
    repeatable (it would do something else the second time) is sent again only when the error says that nothing was
    done.
    """

    def __init__(
        self, policy: RetryPolicy, timeout: float | None, *, writes: bool = False, repeatable: bool = True
    ) -> None:
        self._policy = policy
        self._timeout = timeout
        self._writes = writes
        self._repeatable = repeatable
        self._deadline = None if timeout is None else policy.clock() + timeout
        self._count = 0
        self._uncertain = False
        self._restarts = False

    def remaining(self) -> float | None:
        """Seconds until the deadline, at least a millisecond; None without one."""
        return None if self._deadline is None else max(0.001, self._deadline - self._policy.clock())

    def progress(self, *, endless: bool = False) -> None:
        """The call has come further: waits begin small again, and the next failure has the whole time before it.

        With `endless`, failures are followed by further attempts for ever from now on.
        """
        self._count = 0
        self._deadline = None
        self._restarts = not endless and self._timeout is not None

    def failed(self, error: MartletError) -> float:
        """Seconds until the next attempt; raises the error, or OutcomeUnknown of a write, if there is none."""
        self._uncertain = self._uncertain or error.may_be_done
        if not error.retryable or (error.may_be_done and not self._repeatable):
            raise self._final(error)
        if self._restarts and self._timeout is not None:
            self._deadline = self._policy.clock() + self._timeout
            self._restarts = False
        bound = min(self._policy.longest_wait, self._policy.first_wait * float(1 << min(self._count, 30)))
        self._count += 1
        wait = max(bound * self._policy.random(), error.retry_after or 0.0)
        if self._deadline is not None and self._policy.clock() + wait >= self._deadline:
            raise self._final(error)
        return wait

    def _final(self, error: MartletError) -> MartletError:
        # A refusal other than for want of time or a server is certain: the server looks for the event ids first.
        if not self._writes or not self._uncertain or isinstance(error, OutcomeUnknown):
            return error
        if not (error.retryable or error.may_be_done):
            return error
        unknown = OutcomeUnknown.after(error)
        unknown.__cause__ = error
        return unknown
