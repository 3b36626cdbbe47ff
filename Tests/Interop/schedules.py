"""Schedules: set, listed, moved, cancelled; appended when their time has come; set by an append."""

import time
import uuid
from types import SimpleNamespace

from martlet.v1 import schedule_pb2

from martlet_client import aggregate, event, new_id


def checks(tools: SimpleNamespace):
    connect, append, expected, refused = tools.connect, tools.append, tools.expected, tools.refused
    tenant = tools.tenant

    def named():
        return f"interop.{uuid.uuid4()}"

    def schedule(key, seconds, **fields):
        """A change that sets a schedule which is due in so many seconds."""
        due = int((time.time() + seconds) * 1_000_000)
        fields = {"aggregate": aggregate("interop.due"), "event": event("Due", b"1"), **fields}
        return schedule_pb2.ScheduleChange(set=schedule_pb2.Schedule(key=key, due_micros=due, **fields))

    def cancel(key):
        return schedule_pb2.ScheduleChange(cancel=key)

    def change(connection, *changes):
        request = schedule_pb2.ChangeSchedulesRequest(tenant=tenant, changes=changes)
        outcomes = connection.unary(change_schedules=request).outcomes
        return [schedule_pb2.ScheduleOutcome.Name(one).removeprefix("SCHEDULE_OUTCOME_") for one in outcomes]

    def listed(connection, key, **fields):
        """The schedule of a key; None where it is not in the list."""
        request = schedule_pb2.ListSchedulesRequest(tenant=tenant, after=key[:-1], **fields)
        found = connection.unary(list_schedules=request).schedules
        return next((one for one in found if one.key == key), None)

    def schedules_are_set_listed_moved_and_cancelled():
        connection, key = connect(), named()
        one = schedule(key, 3_600, lateness_millis_max=60_000)
        assert change(connection, one, cancel(named())) == ["SET", "ABSENT"]
        found = listed(connection, key)
        assert found.due_micros == one.set.due_micros and found.aggregate == one.set.aggregate
        assert found.event_id == one.set.event.id and found.event_type == "Due" and found.payload_bytes == 1
        assert found.lateness_millis_max == 60_000 and not found.parked
        assert listed(connection, key, parked_only=True) is None
        assert change(connection, schedule(key, 7_200)) == ["MOVED"]
        assert change(connection, cancel(key)) == ["CANCELLED"] and listed(connection, key) is None
        refused("INVALID_FIELD", lambda: change(connection))
        refused("INVALID_FIELD", lambda: change(connection, cancel("no key")))
        refused("INVALID_FIELD", lambda: change(connection, cancel(key), cancel(key)))
        refused("INVALID_JSON", lambda: change(connection, schedule(key, 1, event=event("Due", b"{"))))
        refused("LIMIT_EXCEEDED", lambda: change(connection, *[cancel(f"{key}.{n}") for n in range(101)]))

    def an_event_is_appended_when_its_time_has_come():
        connection, key, one = connect(), named(), event("Due", b"2", id=new_id())
        due = schedule(key, 0.3, event=one)
        part = (aggregate("interop.waits"), expected(none=True), [event("Made", b"1")])
        append(connection, part, schedules=[due])
        while listed(connection, key):
            time.sleep(0.02)
        assert change(connection, due) == ["FIRED"], "however late it is repeated"
        stored = tools.load(connection, due.set.aggregate)[1]
        assert [found.event.id for found in stored] == [one.id] and stored[0].event.payload == b"2"
        assert stored[0].recorded_at_micros >= due.set.due_micros

    return [schedules_are_set_listed_moved_and_cancelled, an_event_is_appended_when_its_time_has_come]
