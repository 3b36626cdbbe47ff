"""Snapshots, settings and upcasting: this client has not a line of upcasting code, and gets events in today's schema."""

import json
from types import SimpleNamespace

from martlet.v1 import append_pb2, event_pb2, query_pb2, settings_pb2, snapshot_pb2, subscribe_pb2

from martlet_client import aggregate, entries_size, event

RAW = event_pb2.Upcasting(raw=True)
MARKED = event_pb2.Upcasting(on_failure=event_pb2.UPCAST_FAILURE_POLICY_RAW)
STEPS = [
    {"event": "R.Placed", "from": 1, "operations": [{"rename": {"path": "/n", "to": "count", "required": True}}]},
    {"event": "R.Placed", "from": 2, "operations": [{"type": "R.Ordered"}, {"set": {"path": "/new", "value": True}}]},
    {"snapshot": "interop.state", "from": 1, "operations": [{"rename": {"path": "/n", "to": "count"}}]},
]


def checks(tools: SimpleNamespace):
    connect, append, expected, refused, load = tools.connect, tools.append, tools.expected, tools.refused, tools.load
    tenant = tools.tenant

    def get(connection, kind):
        return connection.unary(get_settings=settings_pb2.GetSettingsRequest(tenant=tenant, kind=kind))

    def put(connection, kind, document, **condition):
        document = document if isinstance(document, bytes) else json.dumps(document).encode()
        request = settings_pb2.PutSettingsRequest(tenant=tenant, kind=kind, document=document, **condition)
        return connection.unary(put_settings=request).revision

    def save(connection, name, version, payload=b"{}", **fields):
        snapshot = snapshot_pb2.NewSnapshot(payload=payload, **fields)
        request = snapshot_pb2.SaveSnapshotRequest(tenant=tenant, aggregate=name, version=version, snapshot=snapshot)
        return connection.unary(save_snapshot=request)

    def newest(connection, name, **fields):
        request = snapshot_pb2.LoadSnapshotRequest(tenant=tenant, aggregate=name, **fields)
        return connection.unary(load_snapshot=request)

    def three(connection):
        """An aggregate with an event of each of three schema generations."""
        name = aggregate("interop.state")
        events = [
            event("R.Placed", b'{"n": 1}'),
            event("R.Placed", b'{"count": 2}', schema_version=2),
            event("R.Ordered", b'{"count": 3, "new": true}', schema_version=3),
        ]
        return name, append(connection, (name, expected(none=True), events))

    def shape(one):
        return one.event.type, one.event.schema_version, json.loads(one.event.payload)

    today = [("R.Ordered", 3, {"count": n, "new": True}) for n in (1, 2, 3)]

    def read(connection, after, **fields):
        request = query_pb2.ReadRequest(tenant=tenant, after_position=after, **fields)
        return [one for part in connection.stream(read=request) for one in part.events]

    def follow(connection, after, **fields):
        """The messages of a subscription, for ever; credit is given back."""
        request = subscribe_pb2.SubscribeRequest(tenant=tenant, after_position=after, **fields)
        call = connection.start(credit_bytes=1 << 20, subscribe=request)
        while True:
            frame = connection.receive()
            if frame.call_id != call:
                continue
            if frame.WhichOneof("body") == "status":
                raise AssertionError(f"the subscription ended: {frame.status}")
            yield frame.subscribe
            if frame.subscribe.events:
                connection.grant(call, entries_size(frame.subscribe.events))

    def snapshots_are_saved_listed_loaded_and_deleted():
        connection, name = connect(), aggregate("interop.snap")
        append(connection, (name, expected(none=True), [event("S", b"1") for _ in range(5)]))
        for version in (1, 2, 3, 4):
            assert save(connection, name, version, b'{ "v": %d }' % version, schema_version=version).kept
        assert not save(connection, name, 1).kept, "an older one takes no newer one's place"
        refused("SNAPSHOT_BEYOND_AGGREGATE", lambda: save(connection, name, 6))
        refused("INVALID_JSON", lambda: save(connection, name, 5, b"{"))
        refused("INVALID_FIELD", lambda: save(connection, name, 0))
        request = snapshot_pb2.ListSnapshotsRequest(tenant=tenant, aggregate=name)
        listed = connection.unary(list_snapshots=request).snapshots
        assert [(one.version, one.intact) for one in listed] == [(4, True), (3, True), (2, True)]
        assert newest(connection, name).snapshot.payload == b'{ "v": 4 }', "verbatim"
        assert newest(connection, name, to_version=3).snapshot.version == 3
        found = newest(connection, name, use=snapshot_pb2.SnapshotUse(schema_versions=[2]))
        assert found.snapshot.version == 2 and found.snapshots_skipped == 2
        # One call: the snapshot that this client can read, and the events after it.
        use = snapshot_pb2.SnapshotUse(schema_versions=[2, 3])
        parts = list(connection.stream(load=query_pb2.LoadRequest(tenant=tenant, aggregate=name, snapshot=use)))
        assert parts[0].snapshot.version == 3 and parts[0].view.version == 5 and parts[0].view.snapshots_skipped == 1
        assert [one.version for part in parts for one in part.events] == [4, 5]
        request = snapshot_pb2.DeleteSnapshotsRequest(tenant=tenant, aggregate=name)
        assert connection.unary(delete_snapshots=request).deleted == 3
        assert not newest(connection, name).HasField("snapshot")
        # With the events of an append, atomically.
        part = append_pb2.AggregateAppend(
            aggregate=name, expected=expected(exact=5), events=[event("S", b"1")],
            snapshot=snapshot_pb2.NewSnapshot(payload=b"[6]"),
        )
        connection.unary(append=append_pb2.AppendRequest(tenant=tenant, aggregates=[part]))
        assert newest(connection, name).snapshot.version == 6

    def a_policy_says_when_a_snapshot_is_due():
        connection, name = connect(), aggregate("interop.due")
        policies = {"policies": [{"aggregate_type": "interop.due", "every_events": 2}]}
        revision = put(connection, "snapshot-policies", policies)
        assert json.loads(get(connection, "snapshot-policies").document) == policies
        due = lambda: append(connection, (name, expected(any=True), [event("S", b"1")])).aggregates[0].snapshot_due
        assert [due(), due()] == [False, True]
        save(connection, name, 2)
        assert [due(), due()] == [False, True]
        refused("INVALID_SETTINGS", lambda: put(connection, "snapshot-policies", {"policies": [{"every": 1}]}))
        refused("INVALID_FIELD", lambda: put(connection, "colours", {}))
        stale = lambda: put(connection, "snapshot-policies", policies, expected_revision=revision - 1)
        refused("SETTINGS_CONFLICT", stale)
        assert put(connection, "snapshot-policies", b"", expected_revision=revision) == revision + 1

    def old_events_arrive_in_todays_schema():
        connection, live = connect(), connect()
        name, stored = three(connection)
        before = stored.first_position - 1
        put(connection, "upcasters", b"")
        as_stored = [shape(one) for one in load(connection, name)[1]]
        assert [one[1] for one in as_stored] == [1, 2, 3]
        # A subscription that is live is told of new upcasters.
        messages, seen = follow(live, stored.last_position), []
        while next(messages).WhichOneof("signal") != "caught_up":
            pass
        revision = put(connection, "upcasters", {"upcasters": STEPS})
        while True:
            message = next(messages)
            if message.WhichOneof("signal") == "upcasters_changed":
                break
        assert message.upcasters_changed.revision == revision
        assert message.upcasters_changed.position == stored.last_position
        three(connection)
        while len(seen) < 3:
            seen += [shape(one) for one in next(messages).events]
        assert seen == today, "live"
        events = load(connection, name)[1]
        assert [shape(one) for one in events] == today, "load"
        assert [(one.stored_schema_version, one.stored_type) for one in events] == [(1, "R.Placed"), (2, "R.Placed"), (0, "")]
        assert [shape(one) for one in read(connection, before, events_max=3)] == today, "read"
        ordered = event_pb2.EventFilter(event_types=["R.Ordered"])
        assert [shape(one) for one in read(connection, before, filter=ordered)] == today + today, "by today's name"
        placed = event_pb2.EventFilter(event_types=["R.Placed"])
        assert read(connection, before, filter=placed) == [], "not by the old one"
        caught_up, seen = follow(connect(), before), []
        while len(seen) < 6:
            seen += [shape(one) for one in next(caught_up).events]
        assert seen == today + today, "catch-up"
        assert [shape(one) for one in load(connection, name, upcasting=RAW)[1]] == as_stored, "raw"
        stop = event_pb2.Upcasting(stop_at=[event_pb2.SchemaVersionMax(event_type="R.Placed", schema_version=2)])
        assert [one.event.schema_version for one in load(connection, name, upcasting=stop)[1]] == [2, 2, 3]
        save(connection, name, 3, b'{"n":6}')
        found = newest(connection, name).snapshot
        assert (found.schema_version, found.stored_schema_version, found.payload) == (2, 1, b'{"count":6}')

    def what_cannot_be_upcast_is_told():
        connection, name = connect(), aggregate("interop.state")
        put(connection, "upcasters", {"upcasters": STEPS})
        events = [event("R.Placed", b'{"n":1}'), event("R.Placed", b"{}"), event("R.Placed", b'{"n":3}')]
        answer = append(connection, (name, expected(none=True), events))
        status = refused("UPCAST_FAILED", lambda: load(connection, name))
        failure = status.upcast_failure
        assert failure.position == answer.first_position + 1 and failure.event_id == events[1].id
        assert (failure.event_type, failure.from_version, failure.operation, failure.path) == ("R.Placed", 1, 0, "/n")
        marked = load(connection, name, upcasting=MARKED)[1]
        assert [one.event.schema_version for one in marked] == [3, 1, 3] and marked[1].upcast_failure
        unknown = {"upcasters": [{"event": "A", "from": 1, "operations": [{"frobnicate": {}}]}]}
        status = refused("INVALID_UPCASTER", lambda: put(connection, "upcasters", unknown))
        assert "upcasters[0].operations[0]" in status.message
        put(connection, "upcasters", b"")

    return [
        snapshots_are_saved_listed_loaded_and_deleted,
        a_policy_says_when_a_snapshot_is_due,
        old_events_arrive_in_todays_schema,
        what_cannot_be_upcast_is_told,
    ]
