"""What waits for its turn, key by key."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


class KeyQueues(Generic[Key, Item]):
    """A queue for each key that has something waiting or at work. What belongs to one key comes one after the other, in
    order; a key that has had its turn is behind all others that wait. Holds no lock."""

    def __init__(self, ready: Callable[[Key], object]) -> None:
        """Queues that are empty.

        Args:
            ready: is told each time that a key may have a turn: `first` and then `done`.
        """
        self._ready = ready
        self._queues: dict[Key, deque[Item]] = {}

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits, and nothing is at work."""
        return not self._queues

    def put(self, key: Key, item: Item) -> None:
        """Adds what comes after everything of its key."""
        queue = self._queues.get(key)
        if queue is None:
            self._queues[key] = deque((item,))
            self._ready(key)
        else:
            queue.append(item)

    def first(self, key: Key) -> Item:
        """What a key that is ready begins with."""
        return self._queues[key][0]

    def done(self, key: Key) -> None:
        """The first of the key is done."""
        queue = self._queues[key]
        queue.popleft()
        if queue:
            self._ready(key)
        else:
            del self._queues[key]
