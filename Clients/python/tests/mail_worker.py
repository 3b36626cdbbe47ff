"""A worker as a process of its own: writes the position of each event that it handles into a file."""

import sys
import time

import martlet


def main(consumer: str, worker: str, path: str) -> None:
    with open(path, "a", buffering=1) as file, martlet.connect() as client:

        def handle(delivery):
            file.write(f"{delivery.event.aggregate_key} {delivery.event.position}\n")
            time.sleep(0.002)

        client.tenant().consumer(consumer).run(handle, worker=worker, threads=2)
        file.write("ended\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
