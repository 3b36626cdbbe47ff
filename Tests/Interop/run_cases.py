"""Starts a server, has drivers carry out the cases of Tests/Interop/cases, and prints a table of languages and cases.

    run_cases.py --languages python,asyncio,go --certs Certs/dev [--server .build/debug/martlet]
                 [--storage sqlite:FILE | --storage postgres://...] [CASE...]

Without --storage the server keeps its events in a folder that is removed afterwards. The exit code is 1 if a case
fails.
"""

import argparse
import base64
import json
import os
import pathlib
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import uuid

import grpc
from martlet.v1 import append_pb2, append_pb2_grpc

HERE = pathlib.Path(__file__).resolve().parent
DRIVERS = {
    "python": [sys.executable, str(HERE / "python" / "driver.py")],
    "asyncio": [sys.executable, str(HERE / "python" / "driver.py"), "--asyncio"],
    "go": [str(HERE / "go" / "run")],
    "cpp": [str(HERE / "cpp" / "run")],
    "ruby": [str(HERE / "ruby" / "run")],
    "java": [str(HERE / "java" / "run")],
}
# So many events of a fill go into one append.
FILL_APPEND_EVENTS = 1_000
# A driver that says nothing for so long is stopped.
SILENCE_SECONDS = 700


class Server:
    """A Martlet server, and what cases ask of it."""

    def __init__(self, options, storage):
        self.options, self.storage = options, storage
        self.port = 0
        self.tenants = {}
        self.start({})

    @property
    def target(self):
        return f"127.0.0.1:{self.port}"

    @property
    def ca(self):
        return str((self.options.certs / "ca.pem").resolve())

    def start(self, _):
        if self.port:
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill({})
                raise RuntimeError("the server did not end within 30 s") from None
        command = [self.options.server, "serve", "--listen", self.target, "--storage", self.storage]
        certs = self.options.certs
        self.process = subprocess.Popen(
            [*command, "--cert", certs / "server.pem", "--key", certs / "server.key", "--log-level", "warning"],
            stdout=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the server did not start")
        self.port = int(line.rsplit(":", 1)[1])
        return {}

    def kill(self, _):
        self.process.kill()
        self.process.wait()
        return {}

    def drain(self, _):
        self.process.send_signal(signal.SIGTERM)
        return {}

    def fill(self, step):
        figures = (step["events"], step["payload_bytes"])
        if figures not in self.tenants:
            self.tenants[figures] = self.filled(*figures)
        return {"tenant": self.tenants[figures]}

    def filled(self, events, payload_bytes):
        tenant, payload = uuid.uuid4().bytes, b'"' + b"." * (payload_bytes - 2) + b'"'
        with open(self.ca, "rb") as file:
            credentials = grpc.ssl_channel_credentials(file.read())
        with grpc.secure_channel(self.target, credentials) as channel:
            stub = append_pb2_grpc.AppendServiceStub(channel)
            for start in range(0, events, FILL_APPEND_EVENTS):
                request = append_pb2.AppendRequest(tenant=tenant)
                part = request.aggregates.add()
                part.aggregate.type, part.aggregate.id = "filler", uuid.uuid4().bytes
                part.expected.none = True
                for _ in range(min(FILL_APPEND_EVENTS, events - start)):
                    part.events.add(id=uuid.uuid4().bytes, type="Filled", payload=payload)
                stub.Append(request, wait_for_ready=True, timeout=60)
        return base64.b64encode(tenant).decode()

    def memory(self, step):
        folder = pathlib.Path(f"/proc/{self.process.pid}")
        sizes = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        resident, peak = (int(sizes[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
        if "growth_bytes_max" not in step:
            # From here on the peak is that of what follows.
            (folder / "clear_refs").write_text("5")
            self.resident = resident
        elif peak > self.resident + step["growth_bytes_max"]:
            growth = peak - self.resident
            raise RuntimeError(f"the server used {growth} bytes more, not at most {step['growth_bytes_max']}")
        return {}

    def answer(self, step):
        try:
            return getattr(self, step["server"])(step)
        except Exception as failure:
            return {"error": str(failure)}

    def recover(self):
        """A server that is there, whatever a case that failed has left."""
        if self.process.poll() is None:
            self.kill({})
        self.start({})


def run_driver(language, server, cases):
    """What each case came to: an empty text where it passed."""
    results = {}
    while left := [path for path in cases if path.stem not in results]:
        process = subprocess.Popen(
            [*DRIVERS[language], "--target", server.target, "--ca", server.ca, *map(str, left)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        began = time.monotonic()
        failure = ""
        for line in lines_of(process):
            said = json.loads(line)
            if "ask" in said:
                process.stdin.write(json.dumps(server.answer(said["ask"])).encode() + b"\n")
                process.stdin.flush()
                continue
            results[said["case"]] = failure = "" if said["passed"] else said["why"]
            took, began = time.monotonic() - began, time.monotonic()
            print(f"{language} {said['case']}: {failure or 'passed'} ({took:.1f} s)", flush=True)
            if failure:
                break
        process.kill() if failure else process.stdin.close()
        code = process.wait()
        if not failure and left[-1].stem not in results:
            broken = next(path.stem for path in left if path.stem not in results)
            results[broken] = failure = f"the driver ended with {code}"
            print(f"{language} {broken}: {failure}", flush=True)
        if failure:
            server.recover()
    return results


def lines_of(process):
    """The lines that a driver writes; it is stopped if it is silent for too long."""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        rest = b""
        while True:
            if not selector.select(SILENCE_SECONDS):
                process.kill()
                return
            piece = os.read(process.stdout.fileno(), 65_536)
            if not piece:
                return
            *whole, rest = (rest + piece).split(b"\n")
            yield from whole


def print_table(languages, cases, results):
    rows = [["case", *languages]]
    for path in cases:
        rows.append([path.stem, *("FAILED" if results[one][path.stem] else "passed" for one in languages)])
    widths = [max(map(len, column)) for column in zip(*rows)]
    rows.insert(1, ["-" * width for width in widths])
    for row in rows:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--languages", required=True, type=lambda text: text.split(","))
    parser.add_argument("--certs", required=True, type=pathlib.Path)
    parser.add_argument("--server", default=".build/debug/martlet")
    parser.add_argument("--storage")
    parser.add_argument("cases", nargs="*")
    options = parser.parse_args()
    found = sorted((HERE / "cases").glob("*.json"))
    cases = [path for path in found if not options.cases or path.stem in options.cases]
    if not cases or len(cases) < len(options.cases):
        parser.error("there is no such case; there are " + ", ".join(path.stem for path in found))
    with tempfile.TemporaryDirectory() as folder:
        server = Server(options, options.storage or f"sqlite:{folder}/martlet.db")
        try:
            results = {language: run_driver(language, server, cases) for language in options.languages}
        finally:
            server.kill({})
    print_table(options.languages, cases, results)
    failures = sum(bool(why) for of_language in results.values() for why in of_language.values())
    print(f"{len(cases) * len(options.languages) - failures} passed, {failures} failed")
    sys.exit(failures > 0)


main()
