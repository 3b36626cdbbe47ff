"""Prints an account's movements, of whichever generation they were stored in: there is not a line of upcasting here.

    PYTHONPATH=../../Tests/Interop:../../.build-python/generated python3 read.py HOST PORT CA TENANT ACCOUNT
"""

import json
import sys
import uuid

from martlet.v1 import event_pb2, query_pb2

from martlet_client import Connection

host, port, ca, tenant, account = sys.argv[1:]
connection = Connection(host, int(port), ca)
name = event_pb2.AggregateName(type="account", id=uuid.UUID(account).bytes)
balance = 0
for part in connection.stream(load=query_pb2.LoadRequest(tenant=uuid.UUID(tenant).bytes, aggregate=name)):
    for one in part.events:
        payload = json.loads(one.event.payload)
        if one.event.type in ("Deposited", "Withdrawn"):
            balance += payload["cents"] if one.event.type == "Deposited" else -payload["cents"]
            stored = one.stored_schema_version or one.event.schema_version
            print(f"{one.version} {one.event.type} {payload['cents']} {payload['currency']}, stored as schema {stored}")
print(f"balance {balance}")
