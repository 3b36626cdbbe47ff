"""The other tenant: appends and reads at a fixed rate, each timed from when it was due."""

import gc
import os
import time
import uuid

from martlet.v1 import append_pb2, event_pb2, query_pb2
from martlet_client import Connection, MartletError, aggregate, event

# A call that takes longer counts as this long, and as a failure.
TIMEOUT_SECONDS = 10
# What is not begun so long after the end of the run counts as it is then, and as NOT_STARTED.
GRACE_SECONDS = 5


class Bystander:
    def __init__(self, port, ca, tenant):
        self.port, self.ca, self.tenant = port, ca, tenant
        self.account = aggregate("account")
        self.connection = None

    def connect(self):
        if self.connection is None:
            self.connection = Connection("127.0.0.1", self.port, self.ca, timeout=TIMEOUT_SECONDS)
        return self.connection

    def append(self):
        part = append_pb2.AggregateAppend(
            aggregate=self.account, expected=event_pb2.ExpectedVersion(any=True), events=[event("Done", b"{}")])
        self.connect().unary(append=append_pb2.AppendRequest(tenant=self.tenant, aggregates=[part]))

    def read(self):
        request = query_pb2.ReadRequest(
            tenant=self.tenant, direction=query_pb2.DIRECTION_BACKWARD, events_max=10)
        for _ in self.connect().stream(read=request):
            pass

    def run(self, kind, rate, seconds, start):
        """Returns the times in milliseconds, and what failed and how often."""
        call = getattr(self, kind)
        times, failures = [], {}
        for number in range(int(rate * seconds)):
            due = start + number / rate
            time.sleep(max(0.0, due - time.monotonic()))
            if time.monotonic() > start + seconds + GRACE_SECONDS:
                failures["NOT_STARTED"] = failures.get("NOT_STARTED", 0) + 1
                times.append((time.monotonic() - due) * 1000)
                continue
            try:
                call()
            except (MartletError, OSError, EOFError) as error:
                name = getattr(error, "reason", None) or type(error).__name__
                failures[name] = failures.get(name, 0) + 1
                if not isinstance(error, MartletError):
                    self.connection = None
            times.append((time.monotonic() - due) * 1000)
        return times, failures


def work(kind, port, ca, tenant, rate, seconds, start, cpu, results):
    """The body of a process."""
    os.sched_setaffinity(0, {cpu})
    bystander = Bystander(port, ca, tenant)
    try:
        for _ in range(20):
            getattr(bystander, kind)()
        gc.collect()
        gc.disable()
        results.put((kind, *bystander.run(kind, rate, seconds, start)))
    except Exception as error:  # noqa: BLE001: the parent waits for an answer
        results.put((kind, [], {f"{type(error).__name__}: {error}": 1}))


def new_tenant():
    return uuid.uuid4().bytes
