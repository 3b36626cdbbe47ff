"""Floods the server in all the ways that HTTP/2 allows, and watches its memory, its processor time and a bystander.

    python -m http2 floods --target 127.0.0.1:7311 --ca ca.pem --pid PID [--seconds 5] [--only NAME]

After each flood the server must answer as ever, and its memory must be within the bound that the flood's row names.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time

from . import document, flood_frames, flood_calls  # noqa: F401: they register the floods
from .flooding import CALM, FLOODS, MIB, Flood, fill
from .peer import Peer

CONNECTION_BYTES = 512 << 10
# What the allocator keeps, and what differs from one moment to the next: the bystander's connection, caches that fill.
SLACK_BYTES = 48 * MIB


class Watch(threading.Thread):
    """The server's memory, over and over."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid = pid
        self.peak = 0
        self.ended = threading.Event()

    def run(self):
        while not self.ended.wait(0.02):
            self.peak = max(self.peak, resident(self.pid))


def resident(pid):
    """Bytes in memory."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def processor_time(pid):
    """Seconds of processor time."""
    with open(f"/proc/{pid}/stat") as file:
        parts = file.read().rsplit(")", 1)[1].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


class Bystander:
    """Somebody else, in a process of its own."""

    def __init__(self, options):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "http2.bystander", options.target, options.ca],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n", "the bystander is not served"

    def take(self):
        """What it has seen since this was called last."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def attack(options, by, body, must_end):
    """Floods, and says what was seen."""
    by.take()
    before, cpu = resident(options.pid), processor_time(options.pid)
    watch = Watch(options.pid)
    watch.start()
    began = time.monotonic()
    flood = Flood(options.target, options.ca, options.seconds, must_end)
    try:
        body(flood)
    finally:
        seconds = time.monotonic() - began
        cpu = processor_time(options.pid) - cpu
        watch.ended.set()
        watch.join()
    return flood, before, watch.peak, cpu / seconds, by.take()


def main(arguments):
    parser = argparse.ArgumentParser(prog="http2 floods", description=__doc__.splitlines()[0])
    parser.add_argument("--target", required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--pid", type=int, required=True, help="the server's process")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--only", help="these floods, with commas between them")
    parser.add_argument("--document", help="Docs/HTTP2.md, into which the table is written")
    parser.add_argument("--bystander-millis", type=float, help="fails where the bystander's p99 is longer")
    options = parser.parse_args(arguments)
    fill(options.target, options.ca)
    bystander = Bystander(options)
    failed, rows = 0, []
    chosen = [("quiet", "nothing", ("",), 0, lambda flood: time.sleep(options.seconds))] + FLOODS
    print(f"{'flood':28} {'frames':>9} {'conn':>5} {'rss MB':>14} {'cpu':>5} {'by p50':>7} {'p99':>7} {'max':>8}  ends")
    for name, sent, ends, pools, body in chosen:
        if options.only and name != "quiet" and name not in options.only.split(","):
            continue
        faults = []
        try:
            flood, before, peak, cpu, by = attack(options, bystander, body, ends == (CALM,))
        except Exception as error:  # noqa: BLE001: whatever it is, it belongs into the table
            print(f"{name:28} FAILED: {type(error).__name__}: {error}")
            failed += 1
            continue
        bound = before + pools + flood.connections_at_once * CONNECTION_BYTES + SLACK_BYTES
        if peak > bound:
            faults.append(f"memory {peak // MIB} MB is over {bound // MIB} MB")
        faults += [f"a connection {one}" for one in flood.ends if one not in ends]
        if flood.connections and not flood.ends:
            faults.append("no connection came to an end")
        if by["failed"]:
            faults.append(f"the bystander failed {by['failed']} times: {by['failures']}")
        if options.bystander_millis and by["p99"] and by["p99"] > options.bystander_millis:
            faults.append(f"the bystander waited {by['p99']} ms")
        try:
            with Peer(options.target, options.ca) as peer:
                if not peer.lives():
                    faults.append("calls are not answered after it")
        except OSError as error:
            faults.append(f"no connection after it: {error}")
        seen = ", ".join(f"{count} {name}" for name, count in flood.ends.items())
        rows.append((sent, flood, before, peak, cpu, by, seen))
        print(f"{name:28} {flood.frames:9} {flood.connections:5} {before // MIB:6}->{peak // MIB:6} {cpu:5.2f} "
              f"{by['p50'] or 0:7.1f} {by['p99'] or 0:7.1f} {by['max'] or 0:8.1f}  {seen}", flush=True)
        for fault in faults:
            print(f"{'':28} FAILED: {fault}", flush=True)
        failed += bool(faults)
    bystander.end()
    if options.document:
        document.write_floods(options.document, rows)
    print(f"{len(rows)} floods, {failed} failed")
    return 1 if failed else 0
