"""Somebody who calls the server while it is flooded: stock gRPC, on a connection of its own, in a process of its own.

Calls GetHead every few milliseconds. For each line of its input it prints what it has seen since the last one, as JSON.
"""

import json
import sys
import threading
import time
import uuid

import grpc

from .peer import GET_HEAD

PAUSE = 0.005


def percentile(values, part):
    return values[min(len(values) - 1, int(len(values) * part))] if values else None


def stock_channel(target, ca):
    """A channel of stock gRPC that shares no connection with others."""
    with open(ca, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
    return grpc.secure_channel(target, credentials, options)


class Bystander(threading.Thread):
    """Calls again and again, and keeps how long each call took."""

    def __init__(self, channel):
        super().__init__(daemon=True)
        self.call = channel.unary_unary(GET_HEAD)
        self.request = b"\x0a\x10" + uuid.uuid4().bytes
        self.times, self.failures = [], []

    def run(self):
        while True:
            began = time.monotonic()
            try:
                self.call(self.request, timeout=10)
                self.times.append(time.monotonic() - began)
            except grpc.RpcError as error:
                self.failures.append(f"{error.code().name}: {error.details()}")
            time.sleep(PAUSE)

    def take(self):
        """What was seen since this was called last."""
        times, self.times = sorted(self.times), []
        failures, self.failures = self.failures, []
        millis = {name: round(percentile(times, part) * 1_000, 2) if times else None
                  for name, part in [("p50", 0.5), ("p99", 0.99), ("max", 1)]}
        return {"calls": len(times), "failures": failures[:3], "failed": len(failures), **millis}


def main(target, ca):
    with stock_channel(target, ca) as channel:
        bystander = Bystander(channel)
        bystander.call(bystander.request, timeout=30, wait_for_ready=True)
        bystander.start()
        print("ready", flush=True)
        for _ in sys.stdin:
            print(json.dumps(bystander.take()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
