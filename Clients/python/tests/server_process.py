"""Martlet servers, workers and databases for tests, each a process of its own."""

from __future__ import annotations

import os
import random
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BINARY = Path(os.environ.get("MARTLET_TEST_BINARY", ROOT / ".build" / "debug" / "martlet"))
POSTGRES = os.environ.get("MARTLET_TEST_POSTGRES")

_certificates: Path | None = None


def certificates() -> Path:
    """A folder with ca.pem, server.pem and server.key."""
    global _certificates
    if _certificates is None:
        _certificates = Path(tempfile.mkdtemp(prefix="martlet-certificates-"))
        subprocess.run([ROOT / "Certs" / "make-dev-certs.sh", _certificates], check=True, capture_output=True)
    return _certificates


class Server:
    """A server on a file of its own, which can be killed and started again at the same address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.storage = folder / "martlet.db"
        self.port = 0
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        """Starts it; returns when it listens."""
        own = certificates()
        self._process = subprocess.Popen(
            [
                BINARY,
                "serve",
                "--listen",
                f"127.0.0.1:{self.port}",
                "--storage",
                f"sqlite:{self.storage}",
                "--cert",
                own / "server.pem",
                "--key",
                own / "server.key",
                "--log-level",
                "error",
            ],
            stdout=subprocess.PIPE,
            stderr=(self.folder / "server.log").open("a"),
            text=True,
        )
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], 30)
        line = self._process.stdout.readline() if ready else ""
        found = re.search(r"listens.*:(\d+)", line)
        assert found, f"{line!r}: {(self.folder / 'server.log').read_text()[-2_000:]}"
        self.port = int(found.group(1))

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Ends it; returns when it is gone."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def environment(self, tenant: uuid.UUID) -> dict[str, str]:
        """What a client of a process of its own needs."""
        return {
            **os.environ,
            "MARTLET_SERVER": self.address,
            "MARTLET_CA": str(certificates() / "ca.pem"),
            "MARTLET_TENANT": str(tenant),
            "PYTHONPATH": str(ROOT / "Clients" / "python" / "src"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }


def start_python(script: Path, *arguments: str, environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """A program in Python; what it complains of goes to that file."""
    with log.open("a") as file:
        return subprocess.Popen(
            [sys.executable, script, *arguments], env=environment, stderr=file, restore_signals=True
        )


@contextmanager
def seeded(name: str) -> Iterator[random.Random]:
    """Random numbers, whose seed is printed: MARTLET_TEST_SEED replays them."""
    seed = int(os.environ.get("MARTLET_TEST_SEED", random.SystemRandom().getrandbits(32)))
    print(f"{name}: MARTLET_TEST_SEED={seed}")
    yield random.Random(seed)


def wait_until(condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Waits for a condition."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds} s: {what}"
        time.sleep(0.02)
