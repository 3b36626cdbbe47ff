"""Reads a tenant's events by the native protocol and prints them as JSON: native_read.py REPOSITORY TARGET CA TENANT"""

import json
import os
import sys
import uuid

repository, target, ca, tenant = sys.argv[1:]
sys.path += [
    f"{repository}/Tests/Interop",
    os.environ.get("MARTLET_TEST_PYTHON_PATH") or f"{repository}/.build-python/generated",
]

import martlet_client  # noqa: E402

host, port = target.split(":")
connection = martlet_client.Connection(host, int(port), ca)
events = []
for part in connection.stream(read={"tenant": uuid.UUID(tenant).bytes}):
    for each in part.events:
        ids = [str(uuid.UUID(bytes=id)) for id in (each.aggregate_id, each.event.id)]
        events.append([each.position, each.version, each.recorded_at_micros, *ids, each.event.payload.decode()])
json.dump(events, sys.stdout)
