"""The statement lines of the example, but an event with the tag `fails` fails as often as the tag says."""

import signal
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[3] / "Examples" / "Projections" / "python"))

import statement_lines


def handle(delivery, cursor):
    statement_lines.handle(delivery, cursor)
    tries = int(delivery.event.metadata.tags.get("fails", "0"))
    if delivery.attempt <= tries:
        raise RuntimeError(f"try {delivery.attempt} of {tries} that fail")


if __name__ == "__main__":
    # Who starts it may block signals, which a process inherits.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    statement_lines.main(handle)
