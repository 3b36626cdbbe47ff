"""Runs the programs that Docs/CLIENTS.md shows parts of, and prints a table of languages and tasks.

    run_tasks.py --languages go,java --certs Certs/dev [--server .build/debug/martlet] [--postgresql URL] [TASK...]

Each task has a server of its own, which lets in clients by their certificates, on a SQLite file of its own, or on a
database of its own beside the one that URL names. A program is started as

    PROGRAM TARGET CA CERTIFICATE KEY TENANT TASK [COUNT [DATABASE]]

and what it prints must be what the task says, also while its connection is cut, its server killed or drained, or itself
killed. The exit code is 1 if a task fails.
"""

import argparse
import contextlib
import pathlib
import queue
import re
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import uuid

import grpc
from martlet.v1 import append_pb2, append_pb2_grpc, query_pb2, query_pb2_grpc

from server import Server
from table import print_table

HERE = pathlib.Path(__file__).resolve().parent
# A language whose program is not there yet is left out.
PROGRAMS = {
    "go": HERE / "go" / "run-tasks",
    "java": HERE / "java" / "run-tasks",
    "cpp": HERE / "cpp" / "run-tasks",
    "ruby": HERE / "ruby" / "run-tasks",
    "python": HERE / "python" / "run-tasks",
    "swift": HERE / "swift" / "run-tasks",
}
# Their clients are ours, which try again and go on by themselves: nothing can be seen of it.
OURS = {"python", "swift"}
# The tenant of the client's certificate that Certs/make-dev-certs.sh makes.
TENANT = uuid.UUID("11111111-1111-4111-8111-111111111111")
# A program that prints nothing for this long has failed.
SILENCE_SECONDS = 120


class Program:
    """A program at work on one task."""

    def __init__(self, command, fixture, task, *more, target=None):
        certs = fixture.server.certs
        arguments = [target or fixture.server.target, certs / "ca.pem", certs / "client.pem", certs / "client.key"]
        self.process = subprocess.Popen(
            [str(part) for part in [command, *arguments, TENANT, task, *more]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lines, self.said = queue.Queue(), []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def next(self):
        """The next line; None at the end."""
        try:
            line = self.lines.get(timeout=SILENCE_SECONDS)
        except queue.Empty:
            raise AssertionError(f"nothing came for {SILENCE_SECONDS} s after {self.said[-3:]}") from None
        if line is not None:
            self.said.append(line)
        return line

    def wait_for(self, wanted):
        while (line := self.next()) != wanted:
            assert line is not None, f"the program ended before it said {wanted!r}: {self.said[-5:]}"

    def tell(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def finish(self):
        """All lines, after an orderly end."""
        while self.next() is not None:
            pass
        code = self.process.wait()
        assert code == 0, f"the program ended with {code}: {self.said[-5:]}"
        return self.said

    def kill(self):
        self.process.kill()
        self.process.wait()


class Fixture:
    """A server, and a client of its own to write and look."""

    def __init__(self, language, options, folder, storage):
        self.is_ours = language in OURS
        self.server = Server(options.server, options.certs, storage, client_ca=True)
        self.folder = folder
        certs = options.certs
        files = [(certs / name).read_bytes() for name in ("ca.pem", "client.key", "client.pem")]
        self.credentials = grpc.ssl_channel_credentials(*files)

    def append(self, count):
        """Appends this many events in one call."""
        with grpc.secure_channel(self.server.target, self.credentials) as channel:
            request = append_pb2.AppendRequest(tenant=TENANT.bytes)
            part = request.aggregates.add()
            part.aggregate.type, part.aggregate.id, part.expected.none = "order", uuid.uuid4().bytes, True
            for _ in range(count):
                part.events.add(id=uuid.uuid4().bytes, type="LineAdded", payload=b"{}")
            append_pb2_grpc.AppendServiceStub(channel).Append(request, wait_for_ready=True, timeout=60)

    def head(self):
        with grpc.secure_channel(self.server.target, self.credentials) as channel:
            request = query_pb2.GetHeadRequest(tenant=TENANT.bytes)
            stub = query_pb2_grpc.QueryServiceStub(channel)
            return stub.GetHead(request, wait_for_ready=True, timeout=60).head.position


class Proxy:
    """Passes bytes on between clients and a server, until it is told to hold back what the server says."""

    def __init__(self, server):
        self.server, self.holds, self.sockets, self.lock = server, threading.Event(), [], threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.server.port))
            with self.lock:
                self.sockets += [client, server]
            threading.Thread(target=self._pass, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, True), daemon=True).start()

    def _pass(self, source, target, is_answer):
        try:
            while piece := source.recv(65_536):
                if not (is_answer and self.holds.is_set()):
                    target.sendall(piece)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def cut(self):
        """Cuts the connections that there are. What comes later passes again."""
        with self.lock:
            for one in self.sockets:
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            self.sockets = []
            self.holds.clear()


@contextlib.contextmanager
def new_storage(folder, postgresql):
    """A storage without events: in a file, or in a database of that server, which is removed afterwards."""
    if not postgresql:
        yield f"sqlite:{folder}/martlet.db"
        return
    import psycopg

    name = f"tasks_{uuid.uuid4().hex}"
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield urllib.parse.urlsplit(postgresql)._replace(path=f"/{name}").geturl()
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def numbers(lines, prefix):
    return [int(line[len(prefix) :]) for line in lines if re.fullmatch(f"{prefix}[0-9]+", line)]


def connect(start, fixture):
    """A client is who its certificate says, and takes its receive limit from the server."""
    (line,) = start("connect").finish()
    assert re.fullmatch("connected as .*CN *= *client.*, messages of up to 8388608 bytes", line), line


def append(start, fixture):
    """Two events are stored at once."""
    assert start("append").finish()[1:] == ["appended versions 1 to 2 at positions 1 to 2"]
    assert fixture.head() == 2


def conflict(start, fixture):
    """Somebody else is faster; the second try knows what has come."""
    assert start("conflict").finish()[1:] == ["conflict: expected version 1, found 2", "appended version 3"]


def retry(start, fixture):
    """The answer to the first try is lost, and the second one gets it."""
    proxy = Proxy(fixture.server)
    program = start("retry", target=proxy.target)
    program.wait_for("ready")
    proxy.holds.set()
    program.tell()
    give_up = time.monotonic() + 8
    while fixture.head() == 0:
        assert time.monotonic() < give_up, "the first try did not arrive"
        time.sleep(0.01)
    proxy.cut()
    *_, retried, stored = program.finish()
    assert fixture.is_ours or re.fullmatch("retry after .*unavailable.*", retried, re.IGNORECASE), retried
    assert stored == "stored as version 1, replayed: true", stored
    assert fixture.head() == 1


def load(start, fixture):
    """What was, by version, position and time."""
    expected = ["as of version 1: 1 events", "as of its position: 2 events", "as of its time: 2 events"]
    assert start("load").finish()[1:] == [*expected, "now: 3 events"]


def subscribe(start, fixture):
    """No gap and no repeat, though the server is killed once and drained once."""
    fixture.append(20)
    program = start("subscribe", 60)
    program.wait_for("event 20")
    fixture.server.kill()
    fixture.server.start()
    fixture.append(20)
    program.wait_for("event 40")
    fixture.server.drain()
    fixture.server.start()
    fixture.append(20)
    lines = program.finish()
    assert numbers(lines, "event ") == list(range(1, 61)), lines
    assert fixture.is_ours or {20, 40} <= set(numbers(lines, "resume after ")), lines


def project(start, fixture):
    """A process that is killed goes on, and the table has each event once."""
    database = f"{fixture.folder}/lines.db"
    for done in (0, 100, 200):
        fixture.append(100)
        program = start("project", 400, database)
        program.wait_for(f"projected {done + 50}")
        program.kill()
    fixture.append(100)
    lines = start("project", 400, database).finish()
    if not fixture.is_ours:
        (after,) = numbers(lines, "start after ")
        assert 250 <= after <= 300, f"it was killed at {after}"
        assert numbers(lines, "projected ") == list(range(after + 1, 401)), lines
    rows = sqlite3.connect(database).execute("SELECT position FROM order_lines ORDER BY position").fetchall()
    assert [position for (position,) in rows] == list(range(1, 401)), rows


def drain(start, fixture):
    """Appends and a subscription go on with the server that comes after one that was drained."""
    program = start("drain", 200)
    program.wait_for("appended version 50")
    fixture.server.drain()
    fixture.server.start()
    lines = program.finish()
    assert fixture.is_ours or "the server is draining" in lines, lines
    assert numbers(lines, "appended version ") == list(range(1, 201)), lines
    assert numbers(lines, "event ") == list(range(1, 201)), lines
    assert fixture.head() == 200


TASKS = [connect, append, conflict, retry, load, subscribe, project, drain]


def run(language, task, options):
    """What the task came to: an empty text if it passed."""
    programs = []
    with tempfile.TemporaryDirectory() as folder, new_storage(folder, options.postgresql) as storage:
        fixture = Fixture(language, options, folder, storage)

        def start(*arguments, target=None):
            programs.append(Program(PROGRAMS[language], fixture, *arguments, target=target))
            return programs[-1]

        began, why = time.monotonic(), ""
        try:
            task(start, fixture)
        except Exception as failure:
            why = f"{type(failure).__name__}: {failure}"
        finally:
            for program in programs:
                program.kill()
            fixture.server.kill()
        print(f"{language} {task.__name__}: {why or 'passed'} ({time.monotonic() - began:.1f} s)", flush=True)
        return why


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--languages", required=True, type=lambda text: text.split(","))
    parser.add_argument("--certs", required=True, type=pathlib.Path)
    parser.add_argument("--server", default=".build/debug/martlet")
    parser.add_argument("--postgresql", metavar="URL")
    parser.add_argument("tasks", nargs="*")
    options = parser.parse_args()
    tasks = [task for task in TASKS if not options.tasks or task.__name__ in options.tasks]
    if not tasks or len(tasks) < len(options.tasks):
        parser.error("there is no such task; there are " + ", ".join(task.__name__ for task in TASKS))
    languages = [name for name in options.languages if name in PROGRAMS and PROGRAMS[name].exists()]
    results = {
        language: {task.__name__: run(language, task, options) for task in tasks} for language in languages
    }
    sys.exit(bool(results) and print_table("task", [task.__name__ for task in tasks], results) > 0)


main()
