"""A projection of the bank's accounts (Examples/Bank): a line for each movement, with the balance after it.

    PYTHONPATH=../../../Tests/Interop:../../../.build-python/generated python3 statement_lines.py --port 7311 \\
        --ca ../../../Certs/dev/ca.pem --tenant UUID --consumer statements --worker a --database statements.db

Start as many as there is work for, each with another --worker; SIGTERM stops one.
"""

import argparse
import json
import logging
import uuid

from martlet_client import Connection
from martlet_projection import Failure, Worker

# No key forbids a second line for the same event: that each has one is up to the projection.
TABLES = """
    CREATE TABLE IF NOT EXISTS statement_lines (
        no integer PRIMARY KEY, account text NOT NULL, version bigint NOT NULL, position bigint NOT NULL,
        amount bigint NOT NULL, balance bigint NOT NULL);
    CREATE INDEX IF NOT EXISTS statement_lines_by_account ON statement_lines (account, no);
"""
SIGNS = {"Deposited": 1, "Withdrawn": -1}


def handle(one, cursor):
    recorded = one.recorded
    if recorded.event.type not in SIGNS:
        return
    account = str(uuid.UUID(bytes=recorded.aggregate_id))
    try:
        cents = json.loads(recorded.event.payload)["cents"]
    except (ValueError, KeyError, TypeError) as error:
        raise Failure("park", f"the payload has no cents: {error!r}")
    amount = SIGNS[recorded.event.type] * cents
    last = cursor.execute(
        "SELECT balance FROM statement_lines WHERE account = ? ORDER BY no DESC LIMIT 1", (account,)
    ).fetchone()
    cursor.execute(
        "INSERT INTO statement_lines (account, version, position, amount, balance) VALUES (?, ?, ?, ?, ?)",
        (account, recorded.version, recorded.position, amount, (last[0] if last else 0) + amount),
    )


def main(handle=handle):
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--tenant", type=uuid.UUID, required=True)
    parser.add_argument("--consumer", required=True)
    parser.add_argument("--worker", required=True)
    parser.add_argument("--database", required=True)
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")

    def connect():
        return Connection(options.host, options.port, options.ca, options.cert, options.key)

    worker = Worker(handle, options.database, connect, options.tenant, options.consumer, options.worker)
    worker.retrying(lambda: worker.database.executescript(TABLES))
    worker.run()


if __name__ == "__main__":
    main()
