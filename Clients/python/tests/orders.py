"""Aggregates that the tests work with."""

from __future__ import annotations

from dataclasses import dataclass, field

from martlet.aggregates import Aggregate, event


@event
class Placed:
    item: str
    cents: int


@event(
    name="OrderPaid",
    formerly=["Paid"],
    version=3,
    upcasters={1: lambda old: {"cents": old["amount"] * 100}, 2: lambda old: {**old, "by": "card"}},
)
class Paid:
    cents: int
    by: str


class NotPlaced(Exception):
    pass


@dataclass
class Order(Aggregate, type="order"):
    items: list[str] = field(default_factory=list)
    cents: int = 0
    paid_by: str | None = None

    def apply(self, event: Placed | Paid) -> None:
        match event:
            case Placed(item, cents):
                self.items.append(item)
                self.cents += cents
            case Paid(_, by):
                self.paid_by = by

    def place(self, item: str, cents: int) -> Placed:
        return Placed(item, cents)

    def pay(self, by: str = "card") -> Paid | None:
        if not self.items:
            raise NotPlaced("nothing was ordered")
        return Paid(self.cents, by) if self.paid_by is None else None


@event
class Deposited:
    cents: int


@event
class Withdrawn:
    cents: int


class TooLittle(Exception):
    pass


@dataclass
class Account(Aggregate, type="account"):
    cents: int = 0
    movements: int = 0

    def apply(self, event: Deposited | Withdrawn) -> None:
        self.movements += 1
        self.cents += event.cents if isinstance(event, Deposited) else -event.cents

    def deposit(self, cents: int) -> Deposited:
        return Deposited(cents)

    def withdraw(self, cents: int) -> Withdrawn:
        if cents > self.cents:
            raise TooLittle(self.cents)
        return Withdrawn(cents)
