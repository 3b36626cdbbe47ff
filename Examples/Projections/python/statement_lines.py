"""A projection of the bank's accounts (Examples/Bank): a line for each movement, with the balance after it.

    MARTLET_SERVER=127.0.0.1:7311 MARTLET_CA=../../../Certs/dev/ca.pem MARTLET_TENANT=UUID \\
        PYTHONPATH=../../../Clients/python/src python3 statement_lines.py --consumer statements --worker a \\
        --database statements.db

Start as many as there is work for, each with another --worker; SIGTERM stops one.
"""

import argparse
import logging

import martlet
from martlet.projections import Park, Projection, SQLite

# No key forbids a second line for the same event: that each has one is up to the projection.
TABLES = (
    """
    CREATE TABLE IF NOT EXISTS statement_lines (
        no integer PRIMARY KEY, account text NOT NULL, version bigint NOT NULL, position bigint NOT NULL,
        amount bigint NOT NULL, balance bigint NOT NULL)
    """,
    "CREATE INDEX IF NOT EXISTS statement_lines_by_account ON statement_lines (account, no)",
)
SIGNS = {"Deposited": 1, "Withdrawn": -1}


def handle(delivery, cursor):
    event = delivery.event
    if event.type not in SIGNS:
        return
    account = str(event.aggregate_id)
    try:
        amount = SIGNS[event.type] * event.json()["cents"]
    except (ValueError, KeyError, TypeError) as error:
        raise Park(f"the payload has no cents: {error!r}") from error
    last = cursor.execute(
        "SELECT balance FROM statement_lines WHERE account = ? ORDER BY no DESC LIMIT 1", (account,)
    ).fetchone()
    cursor.execute(
        "INSERT INTO statement_lines (account, version, position, amount, balance) VALUES (?, ?, ?, ?, ?)",
        (account, event.version, event.position, amount, (last[0] if last else 0) + amount),
    )


def main(handle=handle):
    parser = argparse.ArgumentParser()
    parser.add_argument("--consumer", required=True)
    parser.add_argument("--worker", required=True)
    parser.add_argument("--database", required=True)
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    with martlet.connect() as client:
        consumer = client.tenant().consumer(options.consumer)
        Projection(consumer, handle, SQLite(options.database), tables=TABLES, worker=options.worker).run()


if __name__ == "__main__":
    main()
