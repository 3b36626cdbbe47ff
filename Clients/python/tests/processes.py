"""Programs that tests start beside servers, and what tests wait for."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from servers import REPOSITORY, Server

import martlet
from martlet.workers import Consumer

# Seconds after which a test says that something hangs. They bound nothing that a busy machine may take longer for.
PATIENCE = 120.0


def environment(server: Server, tenant: uuid.UUID) -> dict[str, str]:
    """What a client in a process of its own needs."""
    return {
        **os.environ,
        "MARTLET_SERVER": server.target,
        "MARTLET_CA": server.ca,
        "MARTLET_TENANT": str(tenant),
        "PYTHONPATH": str(REPOSITORY / "Clients" / "python" / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def start_python(script: Path, *arguments: str, environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """A program in Python; what it complains of goes to that file."""
    with log.open("a") as file:
        return subprocess.Popen([sys.executable, script, *arguments], env=environment, stderr=file)


@contextmanager
def seeded(name: str) -> Iterator[random.Random]:
    """Random numbers, whose seed is printed: MARTLET_TEST_SEED replays them."""
    seed = int(os.environ.get("MARTLET_TEST_SEED", random.SystemRandom().getrandbits(32)))
    print(f"{name}: MARTLET_TEST_SEED={seed}")
    yield random.Random(seed)


def wait_until(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Waits for a condition."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def wait_until_gone(consumer: Consumer, worker: str) -> None:
    """Waits until the server knows that a worker has left."""
    wait_until(lambda: worker not in consumer.describe().workers, f"{worker} has left")


def pace(server: Server) -> float:
    """Seconds that a new connection and a call take here and now, for bounds that a busy machine is to keep too."""
    since = time.monotonic()
    with martlet.connect(server.target, ca=server.ca) as client:
        client.server_info()
    return time.monotonic() - since
