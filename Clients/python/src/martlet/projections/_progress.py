"""How far a projection has come, in the read model's own database: the steps of Docs/PROJECTIONS.md in SQL.

What holds at each moment, for a slot with floor f:

- Each event of the slot up to f that is delivered, or was, is in the read model, but for those of keys with a row of
  their own: of these, it is in up to the row's position. A key gets its row before the floor passes an event of it that
  failed, and so before the server hears of that and passes over the key's later ones.
- Each position has the id of its event beside it, so that a server that was restored to another past is noticed.
- Both move only forward, in the transaction that takes the event in, and only under the slot's epoch: who has lost the
  slot finds another epoch, and commits nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..workers import Delivery
from ._database import Rows, Session

TABLES = (
    """
    CREATE TABLE IF NOT EXISTS martlet_projection_slots (
        projection text NOT NULL, slot bigint NOT NULL, epoch bigint NOT NULL, position bigint NOT NULL,
        event_id text, PRIMARY KEY (projection, slot))
    """,
    """
    CREATE TABLE IF NOT EXISTS martlet_projection_keys (
        projection text NOT NULL, slot bigint NOT NULL, key {bytes} NOT NULL, position bigint NOT NULL,
        event_id text, PRIMARY KEY (projection, slot, key))
    """,
)


class Floor(NamedTuple):
    """A position, and the id of the event there as text; None at position 0."""

    position: int
    event_id: str | None


START = Floor(0, None)


def floor_of(delivery: Delivery) -> Floor:
    """The place of a delivery's event."""
    return Floor(delivery.event.position, str(delivery.event.id))


class Fenced(Exception):
    """Another worker has the slot: nothing of the transaction may be committed."""


class Transaction:
    """Statements in a transaction of the read model's database."""

    def __init__(self, session: Session[Any], cursor: Any, projection: str) -> None:
        self._session = session
        self.cursor = cursor
        self._projection = projection

    def _execute(self, statement: str, *values: Any) -> None:
        self.cursor.execute(self._session.sql(statement), values)

    def _rows(self, statement: str, *values: Any) -> Rows:
        self._execute(statement, *values)
        rows: Rows = self.cursor.fetchall()
        return rows

    def prepare(self) -> None:
        """Makes the tables where they are missing."""
        self._session.begin_schema(self.cursor)
        for table in TABLES:
            self.cursor.execute(table.format(bytes=self._session.bytes_type))

    def epoch_max(self) -> int:
        """The highest epoch of any slot; 0 for none."""
        rows = self._rows(
            "SELECT coalesce(max(epoch), 0) FROM martlet_projection_slots WHERE projection = ?", self._projection
        )
        return int(rows[0][0])

    def last(self) -> tuple[int, Floor] | None:
        """The last event of all that the read model has taken in, with its slot; None before the first."""
        rows = self._rows(
            """
            SELECT slot, position, event_id FROM martlet_projection_slots WHERE projection = ? AND position > 0
            ORDER BY position DESC LIMIT 1
            """,
            self._projection,
        )
        return (int(rows[0][0]), Floor(int(rows[0][1]), rows[0][2])) if rows else None

    def claim(self, slot: int, epoch: int, is_again: bool) -> Floor:
        """Takes a slot over: from then on nobody commits under a lower epoch.

        Args:
            slot: the number.
            epoch: the epoch under which this worker has it.
            is_again: an earlier try under this epoch may have committed.

        Raises:
            Fenced: another worker has it.
        """
        rows = self._rows(
            """
            INSERT INTO martlet_projection_slots (projection, slot, epoch, position) VALUES (?, ?, ?, 0)
            ON CONFLICT (projection, slot) DO UPDATE SET epoch = excluded.epoch
            WHERE martlet_projection_slots.epoch < excluded.epoch
            RETURNING position, event_id
            """,
            self._projection,
            slot,
            epoch,
        )
        if rows:
            return Floor(int(rows[0][0]), rows[0][1])
        if is_again:
            return self.lock(slot, epoch)
        raise Fenced

    def lock(self, slot: int, epoch: int) -> Floor:
        """Locks the slot's row.

        Raises:
            Fenced: another worker has it.
        """
        rows = self._rows(
            """
            UPDATE martlet_projection_slots SET position = position
            WHERE projection = ? AND slot = ? AND epoch = ? RETURNING position, event_id
            """,
            self._projection,
            slot,
            epoch,
        )
        if not rows:
            raise Fenced
        return Floor(int(rows[0][0]), rows[0][1])

    def move(self, slot: int, floor: Floor) -> None:
        """Moves the floor of a slot that is locked."""
        self._execute(
            "UPDATE martlet_projection_slots SET position = ?, event_id = ? WHERE projection = ? AND slot = ?",
            floor.position,
            floor.event_id,
            self._projection,
            slot,
        )

    def keys(self, slot: int) -> dict[bytes, int]:
        """The keys of a slot that have rows, each with how far it is in the read model."""
        rows = self._rows(
            "SELECT key, position FROM martlet_projection_keys WHERE projection = ? AND slot = ?",
            self._projection,
            slot,
        )
        return {bytes(key): int(position) for key, position in rows}

    def put_key(self, slot: int, key: bytes, floor: Floor) -> None:
        """Writes a key's row."""
        self._execute(
            """
            INSERT INTO martlet_projection_keys (projection, slot, key, position, event_id) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (projection, slot, key) DO UPDATE SET position = excluded.position, event_id = excluded.event_id
            """,
            self._projection,
            slot,
            key,
            floor.position,
            floor.event_id,
        )

    def delete_key(self, slot: int, key: bytes) -> None:
        """Deletes a key's row: the key is in the read model up to the slot's floor."""
        self._execute(
            "DELETE FROM martlet_projection_keys WHERE projection = ? AND slot = ? AND key = ?",
            self._projection,
            slot,
            key,
        )


@dataclasses.dataclass
class SlotProgress:
    """A slot of this worker, with the keys that have rows of their own. Each method runs in one transaction; `keys` is
    what the caller sets to the method's result once that has committed."""

    number: int
    epoch: int
    keys: dict[bytes, int] | None = None

    def begin(self, blocked: Sequence[bytes], checkpoint: int, transaction: Transaction) -> dict[bytes, int]:
        """Step 4: a row for each key that is blocked on the server.

        Args:
            blocked: those keys.
            checkpoint: how far the slot is on the server.
            transaction: where it is stored.
        """
        floor = transaction.lock(self.number, self.epoch)
        keys = transaction.keys(self.number)
        # Where all up to the floor is settled, so is all of what is not blocked any more: it is in the read model.
        # Where it is not, a key may have failed that the server has not heard of.
        if checkpoint >= floor.position:
            for key in set(keys) - set(blocked):
                transaction.delete_key(self.number, key)
                del keys[key]
        for key in blocked:
            if key not in keys:
                transaction.put_key(self.number, key, floor)
                keys[key] = floor.position
        return keys

    def take(
        self, deliveries: Sequence[Delivery], handle: Callable[[Delivery], None], transaction: Transaction
    ) -> dict[bytes, int]:
        """Steps 5 and 6: takes in the events that are new."""
        floor = last = transaction.lock(self.number, self.epoch)
        keys = transaction.keys(self.number) if self.keys is None else dict(self.keys)
        for delivery in deliveries:
            key, place = delivery.key, floor_of(delivery)
            if place.position <= keys.get(key, last.position):
                continue
            handle(delivery)
            if key in keys:
                if place.position > last.position and not delivery.key_blocked:
                    # It has caught up with the floor, and none of it is passed over from here on.
                    transaction.delete_key(self.number, key)
                    del keys[key]
                else:
                    transaction.put_key(self.number, key, place)
                    keys[key] = place.position
            if place.position > last.position:
                last = place
        if last != floor:
            transaction.move(self.number, last)
        return keys

    def note(self, key: bytes, transaction: Transaction) -> dict[bytes, int]:
        """Step 7: a row for a key whose event has failed, before the server hears of it."""
        floor = transaction.lock(self.number, self.epoch)
        keys = transaction.keys(self.number)
        if key not in keys:
            transaction.put_key(self.number, key, floor)
            keys[key] = floor.position
        return keys
