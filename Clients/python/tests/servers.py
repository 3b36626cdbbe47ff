"""Servers that tests start: MARTLET_TEST_BINARY and MARTLET_TEST_CERTIFICATES say where the binary and the folder with
ca.pem, server.pem and server.key are, MARTLET_TEST_POSTGRES which database there is."""

from __future__ import annotations

import os
import pathlib
import random
import signal
import socket
import subprocess
import tempfile

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
BINARY = os.environ.get("MARTLET_TEST_BINARY") or str(REPOSITORY / ".build" / "debug" / "martlet")
CERTIFICATES = pathlib.Path(os.environ.get("MARTLET_TEST_CERTIFICATES") or REPOSITORY / "Certs" / "dev")
POSTGRES = os.environ.get("MARTLET_TEST_POSTGRES")
ENGINES = ["sqlite", "postgresql"]


class Server:
    """A Martlet server on an engine, which keeps its port when it is started again."""

    def __init__(self, engine: str = "sqlite", options: tuple[str, ...] = ()) -> None:
        self.engine = engine
        self.folder = tempfile.TemporaryDirectory(prefix="martlet-python-")
        self.options = options
        self.port = free_port()
        self.start()

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def ca(self) -> str:
        return str(CERTIFICATES / "ca.pem")

    def start(self) -> None:
        storage = f"sqlite:{self.folder.name}/m.db" if self.engine == "sqlite" else POSTGRES
        command = [BINARY, "serve", "--listen", self.target, "--storage", str(storage), "--log-level", "warning"]
        command += ["--cert", str(CERTIFICATES / "server.pem"), "--key", str(CERTIFICATES / "server.key")]
        self.process = subprocess.Popen([*command, *self.options], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server did not start: {command}")
        self.port = int(line.rsplit(":", 1)[1])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def drain(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        self.process.wait(120)

    def resident_bytes(self) -> int:
        return resident_bytes(self.process.pid)

    def close(self) -> None:
        self.kill()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.folder.cleanup()


def free_port() -> int:
    """A port that the system gives to no outgoing connection: a server that was killed can have it again, and a client
    that looks for the server meanwhile does not connect to itself."""
    first = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = [port for port in range(10_000, 32_000) if port < first]
    while ports:
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", random.choice(ports)))
            except OSError:
                continue
            return int(one.getsockname()[1])
    return 0


def resident_bytes(pid: int | str = "self") -> int:
    """Memory of a process that is in RAM."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    line = next(each for each in status.splitlines() if each.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024
