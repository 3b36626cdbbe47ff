"""The steps of a projection on its tables, without a server: what comes again, fails, or comes from another epoch."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from processes import seeded
from test_projections import ENGINES, database_of, read_model

from martlet import Event, Metadata
from martlet.projections import Delivery
from martlet.projections._progress import Fenced, Floor, SlotProgress, Transaction

PROJECTION = "11111111-1111-4111-8111-111111111111/lines"
NOW = datetime.now(timezone.utc)


def delivery(position: int, key: str, *, key_blocked: bool = False) -> Delivery:
    event = Event(
        id=uuid.UUID(int=position), type="Counted", payload=b"{}", version=1, position=position, recorded_at=NOW,
        aggregate_type="counter", aggregate_id=uuid.UUID(int=1), schema_version=1, content_type="application/json",
        metadata=Metadata(),
    )  # fmt: skip
    return Delivery(event, 1, False, key.encode(), 0, 1, position, key_blocked)


class ReadModel:
    """A read model of positions, in one slot."""

    def __init__(self, place: str) -> None:
        self.session: Any = database_of(place).open()
        with self.session.transaction() as cursor:
            Transaction(self.session, cursor, PROJECTION).prepare()
            cursor.execute("CREATE TABLE lines (position bigint NOT NULL)")
        self.failing: set[int] = set()

    def run(self, body: Any) -> Any:
        with self.session.transaction() as cursor:
            return body(Transaction(self.session, cursor, PROJECTION))

    def claim(self, epoch: int, blocked: list[str] | None = None, checkpoint: int = 0) -> tuple[SlotProgress, Floor]:
        slot = SlotProgress(0, epoch)
        floor = self.run(lambda one: one.claim(0, epoch, False))
        keys = [key.encode() for key in blocked or []]
        slot.keys = self.run(lambda one: slot.begin(keys, checkpoint, one))
        return slot, floor

    def take(self, slot: SlotProgress, *deliveries: Delivery) -> None:
        def body(transaction: Transaction) -> dict[bytes, int]:
            def handle(one: Delivery) -> None:
                if one.event.position in self.failing:
                    raise ZeroDivisionError
                statement = self.session.sql("INSERT INTO lines VALUES (?)")
                transaction.cursor.execute(statement, (one.event.position,))

            return slot.take(deliveries, handle, transaction)

        slot.keys = self.run(body)

    def note(self, slot: SlotProgress, key: str) -> None:
        slot.keys = self.run(lambda one: slot.note(key.encode(), one))

    def _rows(self, statement: str) -> list[Any]:
        def body(transaction: Transaction) -> list[Any]:
            transaction.cursor.execute(statement)
            return list(transaction.cursor.fetchall())

        return list(self.run(body))

    @property
    def lines(self) -> list[int]:
        return [position for (position,) in self._rows("SELECT position FROM lines ORDER BY position")]

    @property
    def floor(self) -> Floor:
        return Floor(*self._rows("SELECT position, event_id FROM martlet_projection_slots")[0])

    @property
    def keys(self) -> dict[str, int]:
        return {
            bytes(key).decode(): place for key, place in self._rows("SELECT key, position FROM martlet_projection_keys")
        }


@pytest.fixture(params=ENGINES)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ReadModel]:
    with read_model(request.param, tmp_path) as place:
        model = ReadModel(place)
        yield model
        model.session.close()


def test_what_comes_again_is_not_taken_in_again(model: ReadModel) -> None:
    slot, floor = model.claim(1)
    assert floor == Floor(0, None)
    model.take(slot, delivery(1, "a"), delivery(2, "b"), delivery(4, "a"))
    model.take(slot, delivery(2, "b"), delivery(4, "a"), delivery(5, "b"))
    assert model.lines == [1, 2, 4, 5] and model.floor == Floor(5, str(uuid.UUID(int=5)))
    again, floor = model.claim(2)
    assert floor == model.floor
    model.take(again, delivery(1, "a"), delivery(5, "b"), delivery(6, "a"))
    assert model.lines == [1, 2, 4, 5, 6] and model.keys == {}


def test_who_has_lost_the_slot_writes_nothing(model: ReadModel) -> None:
    old, _ = model.claim(1)
    model.take(old, delivery(1, "a"))
    new, _ = model.claim(2)
    for late in (lambda: model.take(old, delivery(2, "a")), lambda: model.note(old, "a"), lambda: model.claim(2)):
        with pytest.raises(Fenced):
            late()
    with pytest.raises(Fenced):
        model.claim(1)
    assert model.lines == [1]
    # A claim whose commit was not confirmed may be made again.
    assert model.run(lambda one: one.claim(0, 2, True)).position == 1
    model.take(new, delivery(2, "a"))
    assert model.lines == [1, 2]


def test_a_failed_key_goes_on_where_it_stopped(model: ReadModel) -> None:
    slot, _ = model.claim(1)
    model.take(slot, delivery(1, "a"))
    model.failing = {2}
    with pytest.raises(ZeroDivisionError):
        model.take(slot, delivery(2, "a"), delivery(3, "b"))
    assert model.lines == [1]
    model.note(slot, "a")
    model.take(slot, delivery(3, "b"), delivery(5, "b"))
    assert model.keys == {"a": 1} and model.floor.position == 5
    # Another worker finds the row, also if the server has not heard of the failure.
    slot, _ = model.claim(2)
    model.failing = set()
    model.take(slot, delivery(2, "a", key_blocked=True), delivery(3, "b"))
    assert model.lines == [1, 2, 3, 5] and model.keys == {"a": 2}
    model.take(slot, delivery(4, "a", key_blocked=True))
    # It has passed the floor, but was blocked until now: its row stays.
    model.take(slot, delivery(6, "a", key_blocked=True))
    assert model.keys == {"a": 6} and model.floor.position == 6
    model.take(slot, delivery(7, "a"))
    assert model.keys == {} and model.lines == [1, 2, 3, 4, 5, 6, 7]


def test_rows_of_keys_that_are_settled_go(model: ReadModel) -> None:
    slot, _ = model.claim(1, ["a", "b"])
    assert model.keys == {"a": 0, "b": 0}
    model.take(slot, delivery(3, "c"))
    # The server is behind: a may have failed without its knowledge.
    model.claim(2, ["b"], checkpoint=2)
    assert model.keys == {"a": 0, "b": 0}
    model.claim(3, ["b"], checkpoint=3)
    assert model.keys == {"b": 0}


def test_random_deliveries_have_the_effect_of_one_in_order(model: ReadModel) -> None:
    with seeded("progress") as chance:
        for _ in range(5):
            _play(model, chance)
            model.run(lambda one: [one.cursor.execute(f"DELETE FROM {table}") for table in TABLES])


TABLES = "lines", "martlet_projection_slots", "martlet_projection_keys"


def _play(model: ReadModel, chance: random.Random) -> None:
    """A server that forgets what it was told since its last checkpoint, over and over."""
    keys = "abcd"
    events = {position: chance.choice(keys) for position in range(1, 41)}
    settled: set[int] = set()
    blocked: set[str] = set()
    epoch = 0
    while len(settled) < len(events):
        epoch += 1
        slot, _ = model.claim(epoch, sorted(blocked))
        failed: set[str] = set()
        told = set(settled)
        for position, key in events.items():
            # What is settled does not come; what was acknowledged since the last checkpoint may come again.
            if position in settled or key in failed:
                continue
            model.failing = {position} if chance.random() < 0.1 else set()
            try:
                model.take(slot, delivery(position, key, key_blocked=key in blocked))
                told.add(position)
            except ZeroDivisionError:
                model.note(slot, key)
                failed.add(key)
            if chance.random() < 0.1:
                break
        if chance.random() < 0.5:
            settled = told
            blocked = {key for key in keys if key in failed and any(
                events[one] == key and one not in settled for one in events)}  # fmt: skip
    assert model.lines == sorted(events)


def test_a_position_names_its_event(model: ReadModel) -> None:
    slot, _ = model.claim(1)
    model.take(slot, delivery(7, "a"))
    assert model.run(lambda one: one.last()) == (0, Floor(7, str(uuid.UUID(int=7))))
    assert model.run(lambda one: one.epoch_max()) == 1
