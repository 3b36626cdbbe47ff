"""Connections: client certificates, several servers, connections that the server ends for their age."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Iterator

import pytest
from proxy import Proxy
from servers import CERTIFICATES, Server

import martlet
from martlet import ANY, NONE, NewEvent

# The one that the development certificate names.
TENANT = "11111111-1111-4111-8111-111111111111"


@pytest.fixture(scope="module")
def locked() -> Iterator[Server]:
    """A server that takes client certificates only."""
    server = Server(options=("--client-ca", str(CERTIFICATES / "ca.pem")))
    yield server
    server.close()


def test_a_certificate_gives_its_tenants(locked: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SERVER": locked.target,
        "CA": locked.ca,
        "CERT": str(CERTIFICATES / "client.pem"),
        "KEY": str(CERTIFICATES / "client.key"),
        "TENANT": TENANT,
    }.items():
        monkeypatch.setenv(f"MARTLET_{name}", value)
    with martlet.connect() as client:
        info = client.server_info()
        assert info.tenants == (uuid.UUID(TENANT),) and not info.all_tenants and info.identity
        client.tenant().aggregate("order", key="1").append(NewEvent("A"), expecting=NONE)
        other = client.tenant(uuid.uuid4())
        for call in (other.head, lambda: next(other.events()), lambda: other.aggregate("a", key="1").load()):
            with pytest.raises(martlet.PermissionDenied) as caught:
                call()
            assert caught.value.reason == "TENANT_NOT_ALLOWED"


def test_without_a_certificate_it_is_said_what_is_missing(locked: Server) -> None:
    with martlet.connect(locked.target, ca=locked.ca) as client, pytest.raises(martlet.PermissionDenied) as caught:
        client.tenant(TENANT).head()
    assert "certificate" in caught.value.message


def test_another_server_of_the_storage_takes_over(own_server: Server) -> None:
    if own_server.engine != "postgresql":
        pytest.skip("only one server uses a file of SQLite")
    other = Server(own_server.engine)
    with martlet.connect([own_server.target, other.target], ca=other.ca, heartbeat=1) as client:
        tenant = client.tenant(uuid.uuid4())
        aggregate, events = tenant.aggregate("a", key="1"), tenant.events()
        aggregate.append(NewEvent("A"), expecting=NONE)
        assert next(events).position == 1
        own_server.drain()
        own_server.wait()
        since = time.monotonic()
        aggregate.append(NewEvent("B"), expecting=1)
        assert next(events).position == 2
        print(f"another server took over after {time.monotonic() - since:.2f} s")
        own_server.start()
        other.kill()
        aggregate.append(NewEvent("C"), expecting=2)
        assert next(events).position == 3
        events.close()
    other.close()


def test_connections_that_end_for_their_age_are_not_seen() -> None:
    server = Server(options=("--connection-age-max", "1"))
    proxy = Proxy(server.port)
    with martlet.connect(proxy.target, ca=server.ca) as client:
        tenant = client.tenant(uuid.uuid4())
        aggregate, events = tenant.aggregate("a", key="1"), tenant.events()
        for position in itertools.count(1):
            aggregate.append(NewEvent("A"), expecting=ANY)
            assert next(events).position == position
            if len(proxy.accepted_at) >= 3:
                break
        events.close()
    proxy.close()
    server.close()
