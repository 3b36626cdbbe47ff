"""Somebody who calls the server while it is flooded: stock gRPC, on a connection of its own, in a process of its own.

Calls GetHead every few milliseconds until a line comes on its input, then prints what it has seen as JSON.
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


def main(target, ca):
    request = b"\x0a\x10" + uuid.uuid4().bytes
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), ended.set()), daemon=True).start()
    times, failures = [], []
    with stock_channel(target, ca) as channel:
        call = channel.unary_unary(GET_HEAD)
        call(request, timeout=30, wait_for_ready=True)
        print("ready", flush=True)
        while not ended.is_set():
            began = time.monotonic()
            try:
                call(request, timeout=10)
                times.append(time.monotonic() - began)
            except grpc.RpcError as error:
                failures.append(f"{error.code().name}: {error.details()}")
            time.sleep(PAUSE)
    times.sort()
    millis = {name: round(percentile(times, part) * 1_000, 2) if times else None
              for name, part in [("p50", 0.5), ("p99", 0.99), ("max", 1)]}
    print(json.dumps({"calls": len(times), "failures": failures[:3], "failed": len(failures), **millis}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
