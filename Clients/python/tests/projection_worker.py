"""A projection as a process of its own: a line for each event, with a running sum for each account.

An event with the tag `fails` fails as often as the tag says.
"""

import logging
import sys

import martlet
from martlet.projections import PostgreSQL, Projection, SQLite

TABLES = (
    "CREATE TABLE IF NOT EXISTS lines (account text NOT NULL, version bigint NOT NULL, cents bigint NOT NULL, "
    "total bigint NOT NULL)",
    "CREATE INDEX IF NOT EXISTS lines_by_account ON lines (account, version)",
)


def main(consumer: str, worker: str, database: str) -> None:
    mark = "%s" if database.startswith("postgres") else "?"

    def handle(delivery, cursor):
        event = delivery.event
        account = str(event.aggregate_id)
        cursor.execute(f"SELECT total FROM lines WHERE account = {mark} ORDER BY version DESC LIMIT 1", (account,))
        last = cursor.fetchone()
        cents = event.json()["cents"]
        values = account, event.version, cents, (last[0] if last else 0) + cents
        cursor.execute(f"INSERT INTO lines VALUES ({', '.join([mark] * 4)})", values)
        if delivery.attempt <= int(event.metadata.tags.get("fails", "0")):
            raise RuntimeError(f"try {delivery.attempt} fails")

    place = PostgreSQL(database) if database.startswith("postgres") else SQLite(database)
    with martlet.connect() as client:
        Projection(client.tenant().consumer(consumer), handle, place, tables=TABLES, worker=worker, threads=2).run()


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    main(*sys.argv[1:])
