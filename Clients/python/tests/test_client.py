"""The blocking client against a server, on each engine."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import time
import uuid
from datetime import datetime, timedelta, timezone

import pytest
from servers import REPOSITORY, Server

import martlet
from martlet import ANY, EXISTS, NONE, AsOf, NewEvent
from martlet.times import to_micros


def fill(tenant: martlet.Tenant, count: int, *, payload_bytes: int = 2, per_append: int = 1_000) -> None:
    """Appends so many events of type Filled, an aggregate for each append."""
    payload = json.dumps("." * (payload_bytes - 2))
    for start in range(0, count, per_append):
        events = [NewEvent("Filled", payload) for _ in range(min(per_append, count - start))]
        tenant.aggregate("filler", uuid.uuid4()).append(events, expecting=NONE)


def test_append_load_and_head(tenant: martlet.Tenant) -> None:
    order = tenant.aggregate("order", key="A-17")
    assert order.load() == martlet.History((), None, 0, 0)
    assert tenant.head() == martlet.Head(0, None)
    occurred = datetime(2026, 1, 2, 3, 4, 5, 678_901, timezone.utc)
    metadata = martlet.Metadata(
        user_id="u", role="r", occurred_at=occurred, correlation_id="c", causation_id="d", request_id="q",
        source="s", traceparent="00-1-2-01", tracestate="a=b", tags={"colour": "red"},
    )  # fmt: skip
    placed = NewEvent("OrderPlaced", {"amount": 42.5}, metadata=metadata, schema_version=3)
    receipt = order.append(
        [placed, NewEvent("Note", b"\x00\xff", content_type="application/octet-stream")], expecting=0
    )
    assert (receipt.first_position, receipt.last_position, receipt.version, receipt.replayed) == (1, 2, 2, False)
    first, second = order.load().events
    assert (first.id, first.type, first.json(), first.schema_version) == (placed.id, "OrderPlaced", {"amount": 42.5}, 3)
    assert (first.version, first.position, first.recorded_at) == (1, 1, receipt.recorded_at)
    assert (first.aggregate_type, first.aggregate_id, first.aggregate_key) == ("order", order.id, "A-17")
    assert first.metadata.occurred_at == occurred
    assert first.metadata.tags == {"colour": "red", "aggregate_key": "A-17"}
    assert (first.metadata.user_id, first.metadata.tracestate) == ("u", "a=b")
    assert (second.payload, second.content_type) == (b"\x00\xff", "application/octet-stream")
    assert tenant.head() == martlet.Head(2, receipt.recorded_at)
    other = tenant.aggregate("order", order.id)
    assert other.append(NewEvent("Seen"), expecting=EXISTS).version == 3
    assert other.load(after=2).events[0].aggregate_key is None


def test_a_conflict_names_what_is_there(tenant: martlet.Tenant) -> None:
    order, invoice = tenant.aggregate("order", key="1"), tenant.aggregate("invoice", key="1")
    order.append([NewEvent("A"), NewEvent("B")], expecting=NONE)
    changes = [order.change(NewEvent("C"), expecting=1), invoice.change(NewEvent("D"), expecting=EXISTS)]
    for with_events in (False, True):
        with pytest.raises(martlet.VersionConflict) as caught:
            tenant.append(changes, conflicting_events=with_events)
        error = caught.value
        assert (error.reason, error.retryable, error.total) == ("VERSION_CONFLICT", False, 2)
        found = {each.aggregate_type: each for each in error.conflicts}
        assert (found["order"].expected, found["order"].actual) == (1, 2)
        assert (found["invoice"].expected, found["invoice"].actual) == (EXISTS, 0)
        assert [each.type for each in found["order"].events] == (["B"] if with_events else [])
    assert tenant.head().position == 2
    receipt = tenant.append([order.change(NewEvent("C"), expecting=2), invoice.change(NewEvent("D"), expecting=NONE)])
    assert [each.last_version for each in receipt.aggregates] == [3, 1]


def test_a_replay_is_answered_as_at_first(tenant: martlet.Tenant) -> None:
    order = tenant.aggregate("order", key="1")
    events = [NewEvent("A"), NewEvent("B")]
    first = order.append(events, expecting=NONE)
    order.append(NewEvent("C"), expecting=2)
    for again in (order.append(events, expecting=NONE), order.append(events, expecting=NONE, conflicting_events=True)):
        assert again.replayed
        assert (again.first_position, again.recorded_at) == (first.first_position, first.recorded_at)


def test_a_reused_id_names_where_it_is_stored(tenant: martlet.Tenant) -> None:
    order = tenant.aggregate("order", key="1")
    event = NewEvent("A")
    order.append(event, expecting=NONE)
    with pytest.raises(martlet.EventIdReused) as caught:
        tenant.aggregate("order", key="2").append(event, expecting=ANY)
    (reused,) = caught.value.reused
    assert (reused.event_id, reused.aggregate_id, reused.version, reused.position) == (event.id, order.id, 1, 1)


def test_invalid_requests_are_named(tenant: martlet.Tenant) -> None:
    order = tenant.aggregate("order", key="1")
    with pytest.raises(martlet.InvalidRequest) as caught:
        order.append(NewEvent("A", "{"), expecting=ANY)
    assert caught.value.reason == "INVALID_JSON"
    with pytest.raises(martlet.LimitExceeded) as limit:
        order.append([NewEvent("A")] + [NewEvent("A") for _ in range(1_000)], expecting=ANY)
    assert (limit.value.limit, limit.value.allowed, limit.value.actual) == ("events_per_append_max", 1_000, 1_001)
    with pytest.raises(martlet.OutOfRange):
        order.load(as_of=AsOf.position(1))


def test_load_as_of(tenant: martlet.Tenant) -> None:
    order = tenant.aggregate("order", key="1")
    for version in range(4):
        receipt = order.append(NewEvent(f"E{version}"), expecting=version)
        time.sleep(0.002)
        if version == 1:
            second = receipt
    for as_of in (AsOf.version(2), AsOf.position(second.last_position), AsOf.time(second.recorded_at)):
        history = order.load(as_of=as_of)
        assert [each.version for each in history.events] == [1, 2]
        assert (history.version, history.position) == (2, second.last_position)
    assert [each.version for each in order.load(backward=True, max_events=2).events] == [4, 3]
    assert [each.version for each in order.load(after=1, as_of=AsOf.version(3)).events] == [2, 3]
    assert order.load(as_of=AsOf.time(datetime(2000, 1, 1, tzinfo=timezone.utc))).version == 0
    with pytest.raises(martlet.OutOfRange):
        order.load(as_of=AsOf.time(datetime.now(timezone.utc) + timedelta(days=1)))


def test_snapshots(tenant: martlet.Tenant) -> None:
    order = tenant.aggregate("order", key="1")
    assert order.load_snapshot() is None
    order.append(
        [NewEvent("A"), NewEvent("B")], expecting=NONE, snapshot=martlet.NewSnapshot({"n": 2}, schema_version=2)
    )
    order.append(NewEvent("C"), expecting=2)
    history = order.load(snapshot=True)
    assert history.snapshot is not None
    assert (history.snapshot.version, history.snapshot.json(), history.snapshot.schema_version) == (2, {"n": 2}, 2)
    assert [each.version for each in history.events] == [3]
    unusable = order.load(snapshot=[7])
    assert unusable.snapshot is None and unusable.snapshots_skipped == 1 and len(unusable.events) == 3
    assert order.save_snapshot({"n": 3}, version=3)
    found = order.load_snapshot(to_version=2)
    assert found is not None and found.version == 2
    assert [each.version for each in order.list_snapshots()] == [3, 2]
    assert order.delete_snapshots(2) == 1
    assert order.delete_snapshots() == 1
    with pytest.raises(martlet.FailedPrecondition):
        order.save_snapshot({}, version=9)


UPCASTERS = json.dumps(
    {
        "upcasters": [
            {
                "event": "Old",
                "from": 1,
                "operations": [
                    {"type": "New"},
                    {"convert": {"path": "/a", "to": "string"}},
                    {"rename": {"path": "/a", "to": "b"}},
                ],
            }
        ]
    }
)


def test_upcasting(tenant: martlet.Tenant) -> None:
    order = tenant.aggregate("order", key="1")
    order.append([NewEvent("Old", {"a": 1}), NewEvent("Old", {"a": [1]})], expecting=NONE)
    assert tenant.upcasters.get() == martlet.Document("", 0)
    assert tenant.upcasters.apply(UPCASTERS, expected_revision=0) == 1
    assert tenant.upcasters.get() == martlet.Document(UPCASTERS, 1)
    with pytest.raises(martlet.Aborted):
        tenant.upcasters.apply("", expected_revision=0)
    with pytest.raises(martlet.InvalidRequest):
        tenant.upcasters.apply("{}x")
    (event,) = order.load(max_events=1).events
    assert (event.type, event.json(), event.schema_version) == ("New", {"b": "1"}, 2)
    assert (event.stored_type, event.stored_schema_version) == ("Old", 1)
    with pytest.raises(martlet.UpcastFailed) as caught:
        order.load()
    assert caught.value.failure.position == 2
    kept = order.load(upcasting=martlet.Upcasting(keep_failed=True)).events[1]
    assert kept.type == "Old" and kept.upcast_failure
    for raw in (martlet.Upcasting(raw=True), martlet.Upcasting(stop_at={"Old": 1})):
        assert order.load(upcasting=raw).events[0].type == "Old"


def test_read_and_filters(tenant: martlet.Tenant) -> None:
    order, invoice = tenant.aggregate("order", key="1"), tenant.aggregate("invoice", key="1")
    order.append([NewEvent("A"), NewEvent("B"), NewEvent("A")], expecting=NONE)
    invoice.append([NewEvent("A"), NewEvent("C")], expecting=NONE)

    def positions(filter: martlet.Filter | None = None, **options: int) -> list[int]:
        return [each.position for each in tenant.read(filter=filter, **options)]  # type: ignore[arg-type]

    assert positions() == [1, 2, 3, 4, 5]
    assert positions(after=1, to=4) == [2, 3, 4]
    assert positions(backward=True, max_events=2) == [5, 4]
    assert positions(martlet.Filter(event_types=["A", "C"])) == [1, 3, 4, 5]
    assert positions(martlet.Filter(event_types=["A"], aggregate_types=["invoice"])) == [4]
    assert positions(martlet.Filter(aggregate_ids=[order.id])) == [1, 2, 3]
    with pytest.raises(TypeError):
        tenant.read(filter=martlet.Filter(event_types="AB"))
    signals = tenant.signals(filter=martlet.Filter(event_types=["C"]))
    with signals:
        received = []
        for signal in signals:
            received.append(signal)
            if isinstance(signal, martlet.CaughtUp):
                break
    assert [e.type for s in received if isinstance(s, martlet.Events) for e in s.events] == ["C"]
    assert received[-1].position == received[-1].head.position == 5


def test_schedules(tenant: martlet.Tenant) -> None:
    order = tenant.aggregate("order", key="1")
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    schedules = tenant.schedules
    assert schedules.set("late", later, order, NewEvent("Late")) is martlet.ScheduleOutcome.SET
    assert schedules.set("late", later, order, NewEvent("Late")) is martlet.ScheduleOutcome.MOVED
    order.append(
        NewEvent("A"),
        expecting=NONE,
        schedules=[martlet.Schedule("soon", datetime.now(timezone.utc), order, NewEvent("B"))],
    )
    events = tenant.events()
    assert [next(events).type for _ in range(2)] == ["A", "B"]
    (listed,) = schedules.list()
    assert (listed.key, listed.event_type, listed.due, listed.parked) == ("late", "Late", later, False)
    assert schedules.cancel("late") is martlet.ScheduleOutcome.CANCELLED
    assert schedules.cancel("late") is martlet.ScheduleOutcome.ABSENT


def test_settings_and_status(client: martlet.Client, tenant: martlet.Tenant, server: Server) -> None:
    info = client.server_info()
    assert info.all_tenants and "snapshots" in info.features and info.frame_bytes_max == 8 * 1024 * 1024
    assert client.status().storage_engine == server.engine
    tenant.snapshot_policies.apply('{"policies": [{"every_events": 1}]}')
    assert tenant.aggregate("order", key="1").append(NewEvent("A"), expecting=NONE).aggregates[0].snapshot_due


def test_ten_thousand_events_are_those_of_the_native_protocol(tenant: martlet.Tenant, server: Server) -> None:
    fill(tenant, 10_000, payload_bytes=40)
    ours = [
        [each.position, each.version, to_micros(each.recorded_at), str(each.aggregate_id), str(each.id), each.payload]
        for each in tenant.read()
    ]
    assert len(ours) == 10_000
    # In a process of its own: it has modules of the same names.
    script = pathlib.Path(__file__).with_name("native_read.py")
    command = [sys.executable, script, REPOSITORY, server.target, server.ca, str(tenant.id)]
    native = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    assert [[*each[:5], each[5].encode()] for each in json.loads(native.stdout)] == ours


def test_calls_of_a_closed_client_fail(server: Server) -> None:
    client = martlet.connect(server.target, ca=server.ca)
    tenant = client.tenant(uuid.uuid4())
    tenant.head()
    client.close()
    client.close()
    with pytest.raises(martlet.ClientClosed):
        tenant.head()
