"""What tests share: a server per engine, a client of it, and a new tenant for each test."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator

import pytest
from servers import ENGINES, POSTGRES, Server

import martlet

# Whoever starts the tests may have blocked it, and the processes that they start inherit that.
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


@pytest.fixture(scope="session", params=ENGINES)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that runs for all tests, on each engine."""
    if request.param == "postgresql" and not POSTGRES:
        pytest.skip("MARTLET_TEST_POSTGRES names no database: run the tests by make test")
    server = Server(request.param)
    yield server
    server.close()


@pytest.fixture
def one_engine(server: Server) -> None:
    """For tests of the client alone: they run on one engine only."""
    if server.engine != "sqlite":
        pytest.skip("the engine does not matter")


@pytest.fixture
def own_server(server: Server) -> Iterator[Server]:
    """A server of the test's own on the same engine, to be killed and drained."""
    own = Server(server.engine)
    yield own
    own.close()


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[martlet.Client]:
    with martlet.connect(server.target, ca=server.ca) as client:
        yield client


@pytest.fixture
def tenant(client: martlet.Client) -> martlet.Tenant:
    return client.tenant(uuid.uuid4())
