"""Retries, with injected time and chance, and with faults injected between client and server."""

from __future__ import annotations

import dataclasses
import itertools
import uuid
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from servers import Server

import martlet
from martlet import errors
from martlet.retry import Attempts, RetryPolicy


class Time:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waits: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def policy(time: Time, chance: float = 1.0) -> RetryPolicy:
    return RetryPolicy(first_wait=0.1, longest_wait=1.0, clock=time.clock, random=lambda: chance, sleep=time.sleep)


def lost(**fields: Any) -> errors.MartletError:
    return errors.Unavailable("lost", reason="CONNECTION_LOST", retryable=True, **fields)


def test_waits_double_up_to_a_bound_and_end_at_the_deadline() -> None:
    time = Time()
    attempts = Attempts(policy(time), timeout=4.0)
    waits = []
    with pytest.raises(martlet.Unavailable):
        while True:
            waits.append(attempts.failed(lost()))
            time.sleep(waits[-1])
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_waits_are_random_from_zero_to_the_bound() -> None:
    attempts = Attempts(policy(Time(), chance=0.5), timeout=None)
    assert [attempts.failed(lost()) for _ in range(6)] == [0.05, 0.1, 0.2, 0.4, 0.5, 0.5]


def test_the_wait_that_the_server_asks_for_is_kept() -> None:
    attempts = Attempts(policy(Time(), chance=0.0), timeout=30.0)
    assert attempts.failed(lost(retry_after=2.5)) == 2.5
    with pytest.raises(martlet.Unavailable):
        attempts.failed(lost(retry_after=40.0))


def test_what_may_not_be_repeated_is_repeated_only_when_nothing_was_done() -> None:
    attempts = Attempts(policy(Time()), timeout=30.0, writes=True, repeatable=False)
    assert attempts.failed(lost()) == 0.1
    with pytest.raises(martlet.OutcomeUnknown):
        attempts.failed(lost(may_be_done=True))


def test_a_write_that_may_be_stored_says_so_at_the_end() -> None:
    time = Time()
    attempts = Attempts(policy(time), timeout=1.0, writes=True)
    time.sleep(attempts.failed(lost(may_be_done=True)))
    time.now += 1
    with pytest.raises(martlet.OutcomeUnknown) as caught:
        attempts.failed(lost())
    assert caught.value.may_be_done and caught.value.retryable
    # A refusal is certain: the server looks for the event ids first.
    attempts = Attempts(policy(time), timeout=1.0, writes=True)
    attempts.failed(lost(may_be_done=True))
    with pytest.raises(martlet.VersionConflict):
        attempts.failed(errors.VersionConflict("conflict", reason="VERSION_CONFLICT"))


def test_progress_gives_the_next_failure_the_whole_time() -> None:
    time = Time()
    attempts = Attempts(policy(time), timeout=1.0)
    attempts.progress()
    time.now += 1_000
    assert attempts.failed(lost()) == 0.1
    time.now += 1_000
    with pytest.raises(martlet.Unavailable):
        attempts.failed(lost())
    attempts.progress(endless=True)
    for _ in range(100):
        time.now += 1_000
        attempts.failed(lost())


class Fault(grpc.RpcError):
    """A call that ends with a code and no details."""

    def __init__(self, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE, text: str = "Socket closed") -> None:
        self._code, self._text = code, text

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._text

    def trailing_metadata(self) -> tuple[()]:
        return ()


class FaultyChannel:
    """A channel whose unary calls follow a script: 'before' loses the request, 'after' the answer, 'pass' nothing."""

    def __init__(self, channel: grpc.Channel, script: list[str | Fault]) -> None:
        self._channel, self._script = channel, iter(itertools.chain(script, itertools.repeat("pass")))
        self.calls: list[bytes] = []

    def unary_unary(self, path: str, **codec: Any) -> Callable[..., Any]:
        call = self._channel.unary_unary(path, **codec)

        def faulty(request: Any, timeout: float | None = None) -> Any:
            self.calls.append(request.SerializeToString(deterministic=True))
            step = next(self._script)
            if isinstance(step, Fault):
                raise step
            if step == "before":
                raise Fault()
            answer = call(request, timeout=timeout)
            if step == "after":
                raise Fault()
            return answer

        return faulty

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)


class Faulty:
    """A client with a faulty channel, and its time."""

    def __init__(self, server: Server, script: list[str | Fault]) -> None:
        self.time = Time()
        plain = martlet.connect(server.target, ca=server.ca, retry=policy(self.time))

        def open_channel(target: str, options: list[tuple[str, Any]]) -> Any:
            self.channel = FaultyChannel(plain._open_channel(target, options), script)
            return self.channel

        self.client = martlet.Client(dataclasses.replace(plain.settings, open_channel=open_channel))
        self.tenant = self.client.tenant(uuid.uuid4())
        self.order = self.tenant.aggregate("order", key="1")


def test_an_append_is_sent_again_unchanged_and_stored_once(server: Server) -> None:
    faulty = Faulty(server, ["before", "after", "after", "before"])
    with faulty.client:
        receipt = faulty.order.append(martlet.NewEvent("Placed"), expecting=martlet.NONE)
        assert receipt.replayed and receipt.version == 1
        assert len(faulty.channel.calls) == 5 and len(set(faulty.channel.calls)) == 1
        assert faulty.time.waits == [0.1, 0.2, 0.4, 0.8]
        assert [each.version for each in faulty.order.load().events] == [1]


def test_a_conflict_is_not_retried(server: Server) -> None:
    faulty = Faulty(server, [])
    with faulty.client:
        faulty.order.append(martlet.NewEvent("Placed"), expecting=martlet.NONE)
        with pytest.raises(martlet.VersionConflict):
            faulty.order.append(martlet.NewEvent("Placed"), expecting=martlet.NONE)
        assert len(faulty.channel.calls) == 2 and faulty.time.waits == []


def test_an_append_whose_answers_are_lost_ends_unknown_and_can_be_repeated(server: Server) -> None:
    faulty = Faulty(server, ["after"] * 1_000)
    with faulty.client:
        event = martlet.NewEvent("Placed")
        with pytest.raises(martlet.OutcomeUnknown):
            faulty.order.append(event, expecting=martlet.NONE, timeout=5)
        assert sum(faulty.time.waits) <= 5
        faulty.channel._script = iter(["pass"])
        receipt = faulty.order.append(event, expecting=martlet.NONE)
        assert receipt.replayed and receipt.version == 1


def test_settings_with_a_revision_are_not_put_twice(server: Server) -> None:
    faulty = Faulty(server, ["before", "after", "pass"])
    with faulty.client, pytest.raises(martlet.OutcomeUnknown):
        # A lost request and a lost answer look the same, so already the first one is not repeated.
        faulty.tenant.upcasters.apply("", expected_revision=0)
    assert len(faulty.channel.calls) == 1


def test_an_answer_that_is_too_long_has_the_limit_asked_for_once(server: Server) -> None:
    fault = Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, "CLIENT: Received message larger than max (9 vs. 8)")
    faulty = Faulty(server, [fault])
    with faulty.client:
        assert faulty.tenant.head().position == 0
        # The call, GetServerInfo, and the call again.
        assert len(faulty.channel.calls) == 3
    faulty = Faulty(server, [fault, "pass", fault])
    with faulty.client, pytest.raises(martlet.LimitExceeded):
        faulty.tenant.head()


def test_an_untrusted_server_is_reported_at_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MARTLET_CA", raising=False)
    with martlet.connect(server.target) as client:
        with pytest.raises(martlet.Unavailable) as caught:
            client.tenant(uuid.uuid4()).head()
        assert caught.value.reason == "UNTRUSTED_SERVER"


def test_calls_go_to_another_server_when_one_is_gone(server: Server) -> None:
    with martlet.connect(["127.0.0.1:1", server.target], ca=server.ca) as client:
        assert client.tenant(uuid.uuid4()).head().position == 0
