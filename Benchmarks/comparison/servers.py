"""The servers that are compared. Each is started anew, empty, for every run, on loopback, and stopped by its pid."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

from .processes import Memory, TreeMemory, free_port, stop, tail, wait_for_port

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / ".build-bench"
CERTS = ROOT / "Certs" / "dev"


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def peer_flags(work, options):
    """The flags of the C drivers for a work."""
    flags = ["--clients", work.clients, "--batch", work.batch, "--payload", 256, "--warmup", options.warmup,
             "--seconds", options.seconds]
    if work.connections:
        flags += ["--connections", work.connections]
    if work.kind == "load":
        flags += ["--aggregates", work.aggregates, "--events", 1000]
    if work.kind == "history":
        flags += ["--history", work.history]
    if work.is_live:
        flags += ["--subscribers", work.subscribers, "--rate", work.rate]
        if work.subscriber_connections:
            flags += ["--subscriber-connections", work.subscriber_connections]
    verb = {"append": "append", "load": "load", "history": "read", "live": "subscribe"}[work.kind]
    return [verb] + [str(flag) for flag in flags]


class Server:
    settings = ""
    # What it is started for; None where it is started for something else than the comparison.
    work = None
    # Whether its driver writes the figures into the file that it is given, instead of to its standard output.
    writes_file = False

    def __init__(self, name, folder):
        self.name, self.folder = name, folder
        self.process = None
        self.log = folder / "server.log"

    def launch(self, command, environment=None):
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=subprocess.STDOUT,
                                            env={**os.environ, **(environment or {})})

    @property
    def pid(self):
        return self.process.pid

    def storage_pid(self):
        """The process that works for it, and that this program has not started; None where there is none."""
        return None

    def memory(self):
        return Memory(self.pid)

    def stop(self):
        stop(self.process)


class UmaDB(Server):
    def __init__(self, name, folder):
        super().__init__(name, folder)
        self.tls = name != "umadb"
        # Its page cache is off unless asked for. It makes reading cheaper, and appending no faster.
        self.cache = ["--page-cache-max-mb", 512] if name == "umadb-cache" else []
        self.settings = ", ".join(["--page-cache-max-mb 512" if self.cache else "defaults"] + ["TLS"] * self.tls)
        self.settings += "; appends with a condition and an id"

    @staticmethod
    def version():
        return output(BUILD / "venv/bin/umadb", "--version").split()[-1]

    def start(self):
        self.port = free_port()
        command = [BUILD / "venv/bin/umadb", "--listen", f"127.0.0.1:{self.port}", "--db-path", self.folder / "uma.db"]
        if self.tls:
            command += ["--tls-cert", CERTS / "server.pem", "--tls-key", CERTS / "server.key"]
        self.launch(command + self.cache)
        wait_for_port(self.port, self.process, self.log)

    def driver(self, work, options, file):
        tls = ["--tls", CERTS / "ca.pem"] if self.tls else []
        # Catching up is a subscription everywhere.
        method = ["--method", "subscribe"] if work.kind == "history" else []
        return [BUILD / "peer-umadb", *peer_flags(work, options), "--port", self.port, "--server-pid", self.pid,
                *tls, *method]


class NATS(Server):
    """JetStream with one stream, through TLS from the first byte."""

    settings = ("sync_interval: always (reads: as by default, since their history is not written in reasonable time"
                " otherwise), TLS; appends with an expected sequence and an id; several events as an atomic batch")

    @staticmethod
    def version():
        return output(BUILD / "venv/bin/nats-server", "--version").split("v")[-1]

    def start(self):
        self.port = free_port()
        # What is read does not depend on how it was synced.
        reads = self.work is not None and self.work.kind in ("load", "history")
        configuration = self.folder / "nats.conf"
        configuration.write_text(
            f'listen: "127.0.0.1:{self.port}"\n'
            f'jetstream {{ store_dir: "{self.folder}/data"{"" if reads else ", sync_interval: always"} }}\n'
            f'tls {{ cert_file: "{CERTS}/server.pem", key_file: "{CERTS}/server.key", handshake_first: true }}\n')
        self.launch([BUILD / "venv/bin/nats-server", "--config", configuration])
        wait_for_port(self.port, self.process, self.log)

    def driver(self, work, options, file):
        return [BUILD / "peer-nats", *peer_flags(work, options), "--port", self.port, "--server-pid", self.pid,
                "--tls", CERTS / "ca.pem"]


class Redis(Server):
    def __init__(self, name, folder):
        super().__init__(name, folder)
        self.tls = name.endswith("-tls")
        self.settings = "appendonly yes, appendfsync always, save ''" + (", TLS" if self.tls else "")

    @staticmethod
    def version():
        return re.search(r"v=(\S+)", output("redis-server", "--version"))[1]

    def start(self):
        self.port = free_port()
        command = ["redis-server", "--bind", "127.0.0.1", "--dir", self.folder, "--appendonly", "yes",
                   "--appendfsync", "always", "--save", "", "--maxclients", "4000"]
        if self.tls:
            command += ["--port", 0, "--tls-port", self.port, "--tls-cert-file", CERTS / "server.pem",
                        "--tls-key-file", CERTS / "server.key", "--tls-ca-cert-file", CERTS / "ca.pem",
                        "--tls-auth-clients", "no"]
        else:
            command += ["--port", self.port]
        self.launch(command)
        wait_for_port(self.port, self.process, self.log)

    def driver(self, work, options, file):
        tls = ["--tls", CERTS / "ca.pem"] if self.tls else []
        return [BUILD / "peer-redis", *peer_flags(work, options), "--port", self.port, "--server-pid", self.pid, *tls]


class PostgreSQL(Server):
    """A database of its own in the server that .ci/with-postgres started."""

    made = 0

    def __init__(self, name, folder):
        super().__init__(name, folder)
        self.settings = "as .ci/with-postgres makes it: default durability and memory; without TLS"

    @staticmethod
    def address(database="martlet"):
        parts = urlsplit(os.environ["MARTLET_TEST_POSTGRES"])
        return f"postgresql://{parts.netloc}/{database}"

    @classmethod
    def ask(cls, statement):
        return output("psql", "-X", "-A", "-t", "-q", "-d", cls.address(), "-c", statement)

    @classmethod
    def version(cls):
        return cls.ask("SHOW server_version").split()[0]

    @classmethod
    def postmaster(cls):
        return int(cls.ask("SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)"))

    def start(self):
        PostgreSQL.made += 1
        self.database = f"bench_{PostgreSQL.made}"
        self.ask(f"CREATE DATABASE {self.database}")
        self.ask("CHECKPOINT")
        self.postmaster_pid = self.postmaster()

    @property
    def pid(self):
        return self.postmaster_pid

    def storage_pid(self):
        return self.pid

    def memory(self):
        return TreeMemory(self.pid)

    def driver(self, work, options, file):
        method = "message-db" if self.name == "message-db" else "plain"
        return [BUILD / "peer-postgres", *peer_flags(work, options), "--conninfo", self.address(self.database),
                "--server-pid", self.pid, "--method", method]

    def stop(self):
        self.ask(f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE)")


class SQLite(Server):
    settings = "in the driver's process: journal_mode=WAL, synchronous=FULL; one writer"

    @staticmethod
    def version():
        return output("python3", "-c", "import sqlite3; print(sqlite3.sqlite_version)")

    def start(self):
        pass

    @property
    def pid(self):
        return None

    def memory(self):
        return None

    def driver(self, work, options, file):
        return [BUILD / "peer-sqlite", *peer_flags(work, options), "--file", self.folder / "events.db"]


class Martlet(Server):
    binary = ROOT / ".build/release/martlet"
    # Another server than this checkout's, driven by this checkout's load testers.
    server_binary = None

    def __init__(self, name, folder):
        super().__init__(name, folder)
        self.storage = None
        protocol = {"martlet-grpc": "gRPC, TLS", "martlet-session": "gRPC, appends through AppendSession, TLS"}
        self.settings = f"defaults, {protocol.get(name, 'martlet/1, TLS')}; "
        if name.endswith("-postgresql"):
            self.storage = PostgreSQL(name, folder)
            self.settings += self.storage.settings
        else:
            self.settings += "SQLite: WAL, synchronous=FULL"

    @staticmethod
    def version():
        return output(Martlet.server_binary or Martlet.binary, "--version")

    def start(self):
        if self.storage:
            self.storage.start()
            where = "postgres:" + self.storage.address(self.storage.database).removeprefix("postgresql:")
        else:
            (self.folder / "data").mkdir()
            where = f"sqlite:{self.folder}/data/martlet.db"
        self.launch([self.server_binary or self.binary, "serve", "--listen", "127.0.0.1:0", "--storage", where,
                     "--cert", CERTS / "server.pem", "--key", CERTS / "server.key", "--log-level", "error"])
        end = time.monotonic() + 15
        while True:
            found = re.search(r"listens.*:(\d+)", tail(self.log))
            if found:
                break
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"martlet does not listen: {tail(self.log)}")
            time.sleep(0.02)
        self.port = int(found[1])

    def storage_pid(self):
        return self.storage.pid if self.storage else None

    def driver(self, work, options, file):
        driver = "peer-martlet-grpc" if self.name in ("martlet-grpc", "martlet-session") else "peer-martlet-native"
        method = ["--method", "session"] if self.name == "martlet-session" else []
        return [BUILD / driver, *peer_flags(work, options), "--port", self.port, "--server-pid", self.pid,
                "--tls", CERTS / "ca.pem", *method]

    def stop(self):
        super().stop()
        if self.storage:
            self.storage.stop()


class MartletBench(Martlet):
    """Driven by `martlet bench`, for what compares Martlet with itself."""

    writes_file = True

    def driver(self, work, options, file):
        flags = ["--payload", 256, "--server", f"127.0.0.1:{self.port}", "--ca", CERTS / "ca.pem", "--json", file]
        timed = ["--warmup", options.warmup, "--seconds", options.seconds]
        connections = work.connections or work.clients
        if work.kind == "append":
            verb = "append"
            flags += ["--clients", work.clients, "--connections", connections, "--batch", work.batch, *timed]
        elif work.kind == "load":
            verb = "load"
            flags += ["--clients", work.clients, "--connections", connections, "--aggregates", work.aggregates,
                      "--events", 1000, *timed]
        elif work.kind == "history":
            verb = "subscribe"
            flags += ["--history", work.history, "--subscribers", work.clients, "--connections", work.clients]
        else:
            verb = "subscribe"
            if work.upcast_steps:
                flags += ["--upcast-steps", work.upcast_steps]
            flags += ["--subscribers", work.subscribers, "--connections", work.subscribers, "--rate", work.rate,
                      "--clients", work.clients, "--batch", work.batch, *timed]
        return [self.binary, "bench", verb, *flags]


KINDS = {
    "martlet": Martlet, "martlet-grpc": Martlet, "martlet-session": Martlet, "martlet-postgresql": Martlet,
    "bench-sqlite": MartletBench, "bench-postgresql": MartletBench, "umadb-tls": UmaDB, "umadb": UmaDB,
    "umadb-cache": UmaDB, "nats-tls": NATS, "redis-tls": Redis, "redis": Redis, "postgresql": PostgreSQL,
    "message-db": PostgreSQL, "sqlite": SQLite,
}


def make(name, folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return KINDS[name](name, folder)
