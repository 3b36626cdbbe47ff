"""The statement lines of the example, but an event with the tag `fails` fails as often as the tag says."""

import signal

import statement_lines


def handle(one, cursor):
    statement_lines.handle(one, cursor)
    for tag in one.recorded.event.metadata.tags:
        if tag.key == "fails" and one.delivery.attempt <= int(tag.value):
            raise RuntimeError(f"try {one.delivery.attempt} of {tag.value} that fail")


# Who starts it may block signals, which a process inherits.
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
statement_lines.main(handle)
