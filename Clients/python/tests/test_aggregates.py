"""Aggregates: without a server, with one whose calls fail, and with one that is killed."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import decimal
import enum
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from orders import Account, Deposited, NotPlaced, Order, Paid, Placed, TooLittle
from processes import PATIENCE, seeded
from servers import Server

import martlet
import martlet.aio
from martlet.aggregates import (
    Aggregate,
    AggregateNotFound,
    EventUndecodable,
    Repository,
    ScenarioFailure,
    SchemaError,
    caused_by,
    event,
    execute_together,
    execute_together_async,
    given,
    stored,
)
from martlet.aggregates._values import Undecodable, from_json, to_json

# Without a server.


def test_scenarios() -> None:
    given(Order, Placed("tea", 500)).when(Order.pay).then(Paid(500, "card"))
    given(Order).when(Order.pay).then_raises(NotPlaced)
    given(Order).when(Order.pay).then_raises(NotPlaced("nothing was ordered"))
    given(Order, Placed("tea", 500), Paid(500, "cash")).when(Order.pay).then()
    after = (
        given(Order)
        .when(lambda order: [order.place("tea", 5), order.place("cup", 7)])
        .then_state(lambda order: order.cents == 12)
    )
    after.when(lambda order: order.pay("cash")).then(Paid(12, "cash"))
    with pytest.raises(ScenarioFailure, match=r'expected nothing, but Order decided Placed \{"cents": 5'):
        given(Order).when(lambda order: order.place("tea", 5)).then()
    with pytest.raises(ScenarioFailure, match="refused the command: NotPlaced"):
        given(Order).when(Order.pay).then(Paid(0, "card"))
    with pytest.raises(ScenarioFailure, match=r"expected .*TooLittle.*raised NotPlaced"):
        given(Order).when(Order.pay).then_raises(TooLittle)


def test_a_command_must_not_change_the_state() -> None:
    def careless(order: Order) -> Placed:
        order.cents += 5
        return Placed("tea", 5)

    with pytest.raises(ScenarioFailure, match="changed the state"):
        given(Order).when(careless)


def test_older_schema_versions_and_names_are_upcast() -> None:
    old = stored("Paid", 1, {"amount": 5})
    assert given(Order, old).state().paid_by == "card"
    newer = stored("OrderPaid", 4, {})
    with pytest.raises(EventUndecodable, match="newer than this program"):
        given(Order, newer).state()
    with pytest.raises(EventUndecodable, match="cents: missing"):
        given(Order, stored("Placed", 1, {"item": "tea"})).state()
    with pytest.raises(EventUndecodable, match="cents: expected int, found a string"):
        given(Order, stored("Placed", 1, {"item": "tea", "cents": "5"})).state()
    with pytest.raises(EventUndecodable, match=r"Order\.apply has no event Unknown"):
        given(Order, stored("Unknown", 1, {})).state()


def test_defects_of_a_schema_are_found_where_it_is_declared() -> None:
    with pytest.raises(SchemaError, match="upcaster from version 2 is missing"):
        event(version=3, upcasters={1: lambda old: old})(type("Gap", (), {}))
    with pytest.raises(SchemaError, match="leads beyond version 2"):
        event(version=2, upcasters={2: lambda old: old})(type("Beyond", (), {}))
    with pytest.raises(SchemaError, match="annotate the parameter of apply"):

        class Silent(Aggregate, type="silent"):
            pass

    with pytest.raises(SchemaError, match="define the events before"):

        class Early(Aggregate, type="early"):
            def apply(self, event: NotThere) -> None:  # type: ignore[name-defined]  # noqa: F821
                pass

    with pytest.raises(SchemaError, match="two events are stored as Placed"):
        again = event(name="Placed")(type("PlacedAgain", (), {}))

        class Twice(Aggregate, type="twice"):
            def apply(self, event: Placed | again) -> None:
                pass

    with pytest.raises(SchemaError, match="Deposited is not an event of order: those are Placed, Paid"):
        given(Order).when(lambda _: Deposited(1))


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


@dataclass(frozen=True)
class Line:
    item: str
    size: Size
    price: decimal.Decimal


@dataclass(frozen=True)
class Everything:
    lines: list[Line]
    by_name: dict[str, Line]
    numbers: dict[int, float]
    at: datetime.datetime
    on: datetime.date
    id: uuid.UUID
    raw: bytes
    pair: tuple[int, str]
    rest: tuple[str, ...]
    seen: frozenset[str]
    either: int | str | None
    text: str = "Ümläut 𝄞"
    later: list[int] = field(default_factory=lambda: [1])


def test_values_come_back_as_they_were() -> None:
    line = Line("tea", Size.SMALL, decimal.Decimal("1.10"))
    value = Everything(
        [line],
        {"a": line},
        {1: 2.0},
        datetime.datetime.now(datetime.timezone.utc),
        datetime.date(2026, 2, 28),
        uuid.uuid4(),
        b"\0\xff",
        (1, "b"),
        ("c", "d"),
        frozenset({"e"}),
        None,
    )
    assert from_json(Everything, to_json(value)) == value
    known = {**to_json(value), "unknown": 1}
    del known["later"]
    assert from_json(Everything, known) == value
    with pytest.raises(Undecodable, match=r"lines\[0\]\.size: 'x' is not a valid Size"):
        from_json(Everything, {**known, "lines": [{"item": "tea", "size": "x", "price": "1"}]})
    assert from_json(datetime.datetime, "2026-01-02T03:04:05Z").tzinfo is not None
    assert from_json(bool, True) is True
    for kind, wrong in ((int, True), (bool, 1), (str, 1), (float, "1"), (uuid.UUID, "x"), (list[int], {})):
        with pytest.raises(Undecodable):
            from_json(kind, wrong, "value")


# With a server.


@pytest.fixture
def client(server: Server) -> Iterator[martlet.Client]:
    with martlet.connect(server.target, ca=server.ca, tenant=uuid.uuid4()) as client:
        yield client


def test_load_and_execute(client: martlet.Client) -> None:
    tenant = client.tenant()
    orders = tenant.repository(Order)
    with pytest.raises(AggregateNotFound, match=r"order/A-17 has no events"):
        orders.load("A-17")
    done = orders.execute("A-17", lambda order: order.place("tea", 500))
    assert done.state == Order(["tea"], 500) and done.receipt is not None and done.aggregate.version == 1
    paid = orders.execute("A-17", Order.pay, metadata=martlet.Metadata(user_id="ada"))
    assert paid.events == [Paid(500, "card")]
    again = orders.execute("A-17", Order.pay)
    assert again.receipt is None and again.events == [] and again.aggregate.version == 2
    with pytest.raises(NotPlaced):
        orders.execute("A-18", Order.pay)
    loaded = orders.load("A-17")
    assert loaded.state == Order(["tea"], 500, "card") and loaded.key == "A-17"
    assert orders.load(loaded.id).state == loaded.state
    assert orders.load("A-17", as_of=martlet.AsOf.version(1)).state.paid_by is None
    assert orders.load("A-17", as_of=martlet.AsOf.position(loaded.position)).state == loaded.state
    first, second = tenant.read()
    assert first.json() == {"item": "tea", "cents": 500} and first.aggregate_key == "A-17"
    assert second.type == "OrderPaid" and second.schema_version == 3 and second.metadata.user_id == "ada"
    assert second.metadata.correlation_id == second.metadata.causation_id and second.metadata.occurred_at
    reaction = caused_by(second)
    assert reaction.causation_id == str(second.id) and reaction.correlation_id == second.metadata.correlation_id


def test_snapshots_come_every_so_many_events(client: martlet.Client) -> None:
    tenant = client.tenant()
    accounts = tenant.repository(Account, snapshots=3)
    for number in range(7):
        assert accounts.execute("ada", lambda account: account.deposit(1)).aggregate.version == number + 1
    assert [one.version for one in tenant.aggregate("account", key="ada").list_snapshots()] == [6, 3]
    loaded = accounts.load("ada")
    assert loaded.state == Account(7, 7) and loaded.snapshot_version == 6 and loaded.events_replayed == 1
    assert accounts.figures.snapshots_saved == 2
    never = tenant.repository(Account, snapshots="never")
    never.execute("ada", lambda account: account.deposit(1))
    assert never.load("ada").snapshot_version == 6
    assert never.figures.snapshots_saved == 0


def test_snapshots_that_are_due_by_the_tenants_policy(client: martlet.Client) -> None:
    tenant = client.tenant()
    tenant.snapshot_policies.apply('{"policies": [{"aggregate_type": "account", "every_events": 2}]}')
    accounts = tenant.repository(Account)
    for _ in range(4):
        accounts.execute("ada", lambda account: account.deposit(1))
    loaded = accounts.load("ada")
    assert loaded.snapshot_version == 4 and loaded.state == Account(4, 4)


def test_a_snapshot_that_cannot_be_used_is_passed_over(client: martlet.Client) -> None:
    tenant = client.tenant()
    accounts = tenant.repository(Account, snapshots="never")
    accounts.execute("ada", lambda account: [account.deposit(1), account.deposit(2)])
    handle = tenant.aggregate("account", key="ada")
    handle.save_snapshot({"cents": "damaged"}, version=1)
    loaded = accounts.load("ada")
    assert loaded.state == Account(3, 2) and loaded.snapshot_version == 0
    assert accounts.figures.snapshots_undecodable == 1
    # One of a newer program is not even sent.
    handle.save_snapshot({"of": "tomorrow"}, version=2, schema_version=2)
    assert accounts.load("ada").state == Account(3, 2)
    assert accounts.figures.snapshots_skipped == 1


@dataclass
class Counter(Aggregate, type="account", snapshot_version=2,
              snapshot_upcasters={1: lambda old: {"total": old["cents"]}}):  # fmt: skip
    total: int = 0

    def apply(self, event: Deposited) -> None:
        self.total += event.cents


def test_snapshots_are_upcast(client: martlet.Client) -> None:
    tenant = client.tenant()
    accounts = tenant.repository(Account, snapshots=1)
    accounts.execute("ada", lambda account: account.deposit(5))
    loaded = tenant.repository(Counter).load("ada")
    assert loaded.state == Counter(5) and loaded.snapshot_version == 1 and loaded.events_replayed == 0


def test_commands_over_two_aggregates_are_one_append(client: martlet.Client) -> None:
    tenant = client.tenant()
    accounts, orders = tenant.repository(Account), tenant.repository(Order)
    accounts.execute("ada", lambda account: account.deposit(1_000))
    orders.execute("A-17", lambda order: order.place("tea", 400))

    def pay(order: Order, account: Account) -> tuple[object, object]:
        return order.pay(), account.withdraw(order.cents)

    order, account = execute_together(orders.at("A-17"), accounts.at("ada"), command=pay)
    assert order.state.paid_by == "card" and account.state.cents == 600
    assert order.receipt is account.receipt and order.receipt is not None
    assert order.receipt.last_position == order.receipt.first_position + 1
    orders.execute("A-18", lambda order: order.place("pot", 4_000))
    with pytest.raises(TooLittle):
        execute_together(orders.at("A-18"), accounts.at("ada"), command=pay)
    assert orders.load("A-18").state.paid_by is None
    with pytest.raises(ValueError, match="same aggregate twice"):
        execute_together(orders.at("A-18"), orders.at("A-18"), command=lambda *_: (None, None))
    with pytest.raises(ValueError, match="1 results for 2 aggregates"):
        execute_together(orders.at("A-18"), accounts.at("ada"), command=lambda *_: (None,))


def test_who_is_slower_decides_again(client: martlet.Client) -> None:
    tenant = client.tenant()
    accounts = tenant.repository(Account, snapshots=10, decisions_max=100)
    accounts.execute("ada", lambda account: account.deposit(50))
    refused = 0

    def withdraw(_: int) -> None:
        nonlocal refused
        try:
            accounts.execute("ada", lambda account: account.withdraw(1))
        except TooLittle:
            refused += 1

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(withdraw, range(60)))
    loaded = accounts.load("ada")
    assert (loaded.state.cents, loaded.version, refused) == (0, 51, 10)
    assert accounts.figures.conflicts > 0

    def interfere(account: Account) -> Deposited:
        tenant.repository(Account).execute("bob", lambda bob: bob.deposit(1))
        return account.deposit(1)

    once = tenant.repository(Account, decisions_max=3)
    with pytest.raises(martlet.VersionConflict):
        once.execute("bob", interfere)
    assert once.figures.conflicts == 2


def test_a_transfer_between_accounts_loses_nothing(client: martlet.Client) -> None:
    accounts = client.tenant().repository(Account, decisions_max=200)
    for name in ("ada", "bob"):
        accounts.execute(name, lambda account: account.deposit(50))

    def transfer(number: int) -> None:
        giver, taker = ("ada", "bob") if number % 2 else ("bob", "ada")
        execute_together(
            accounts.at(giver), accounts.at(taker), command=lambda one, other: (one.withdraw(1), other.deposit(1))
        )

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(transfer, range(20)))
    assert [accounts.load(name).state.cents for name in ("ada", "bob")] == [50, 50]
    assert [accounts.load(name).version for name in ("ada", "bob")] == [21, 21]


class LostAnswers(grpc.UnaryUnaryClientInterceptor):
    """Carries appends out, and says for some of them that nothing is known of it."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.ids: list[list[bytes]] = []

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        call = continuation(details, request)
        if not details.method.endswith("/Append"):
            return call
        self.ids.append([one.id for part in request.aggregates for one in part.events])
        if self.left == 0:
            return call
        self.left -= 1
        call.result()
        raise _Lost


class _LostType(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return "the answer was lost"

    def trailing_metadata(self) -> None:
        return None


_Lost = _LostType()


def test_an_append_whose_answer_is_lost_is_sent_again_with_the_same_ids(server: Server) -> None:
    lost = LostAnswers(2)
    settings = martlet.Settings(servers=(server.target,), ca=Path(server.ca).read_bytes())

    def open_channel(target: str, options: list[tuple[str, Any]]) -> grpc.Channel:
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(settings.ca), options)
        return grpc.intercept_channel(channel, lost)

    tenant_id = uuid.uuid4()
    with martlet.Client(dataclasses.replace(settings, open_channel=open_channel)) as client:
        accounts = client.tenant(tenant_id).repository(Account)
        done = accounts.execute("ada", lambda account: account.deposit(5))
        assert done.receipt is not None and done.receipt.replayed and done.decisions == 1
        assert len(lost.ids) == 3 and len({tuple(ids) for ids in lost.ids}) == 1
        assert accounts.load("ada").state == Account(5, 1)


def test_commands_while_the_server_is_killed_take_effect_once(own_server: Server) -> None:
    counts = [0] * 4
    is_over = threading.Event()
    with (
        seeded("aggregates") as random,
        martlet.connect(own_server.target, ca=own_server.ca, tenant=uuid.uuid4()) as client,
    ):
        accounts = client.tenant().repository(Account, snapshots=20, decisions_max=100)

        def work(number: int) -> None:
            while not is_over.is_set():
                accounts.execute(f"account-{number % 2}", lambda account: account.deposit(1))
                counts[number] += 1

        with ThreadPoolExecutor(4) as threads:
            works = [threads.submit(work, number) for number in range(4)]
            for _ in range(3):
                time.sleep(random.uniform(0.1, 0.5))
                own_server.kill()
                own_server.start()
            time.sleep(0.2)
            is_over.set()
            for one in works:
                one.result(PATIENCE)
        for half in (0, 1):
            assert accounts.load(f"account-{half}").state.cents == counts[half] + counts[half + 2] > 0


# asyncio.


def test_asyncio(server: Server) -> None:
    async def main() -> None:
        async with martlet.aio.connect(server.target, ca=server.ca, tenant=uuid.uuid4()) as client:
            tenant = client.tenant()
            accounts = tenant.repository(Account, snapshots=10, decisions_max=100)
            await accounts.execute("ada", lambda account: account.deposit(10))
            results = await asyncio.gather(
                *(accounts.execute("ada", lambda account: account.withdraw(1)) for _ in range(20)),
                return_exceptions=True,
            )
            assert sum(isinstance(one, TooLittle) for one in results) == 10
            loaded = await accounts.load("ada")
            assert loaded.state == Account(0, 11) and loaded.snapshot_version >= 10
            one, other = await execute_together_async(
                accounts.at("ada"), accounts.at("bob"), command=lambda ada, bob: (ada.deposit(1), bob.deposit(2))
            )
            assert (one.state.cents, other.state.cents) == (1, 2)
            with pytest.raises(AggregateNotFound):
                await accounts.load("eve")

    asyncio.run(main())


def test_a_repository_needs_a_type(client: martlet.Client) -> None:
    class Untyped(Aggregate):
        pass

    with pytest.raises(SchemaError, match="Untyped has no type"):
        Repository(client.tenant(), Untyped)
