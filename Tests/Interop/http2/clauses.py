"""The tests, each with the clause it is of and the outcomes that the clause allows."""

from dataclasses import dataclass, field
from typing import Callable


@dataclass
class Test:
    """One clause, tried on a connection of its own."""

    name: str
    clause: str
    sent: str
    expected: tuple
    body: Callable
    options: dict = field(default_factory=dict)

    @property
    def title(self):
        return f"{self.clause} {self.sent}"


TESTS = []

# What a server may do about a stream's fault. 5.4.1 lets it end the connection instead; here that is a deviation, since
# other calls suffer from it.
OK = "answer 200, grpc-status 0"
GOES_ON = "goes on"


def goaway(*names):
    return tuple(f"GOAWAY {name}" for name in names)


def stream_error(*names):
    return tuple(f"RST_STREAM {name}" for name in names)


def clause(number, sent, *expected, **options):
    """Registers a test: what is sent, and the outcomes that the clause allows. The function returns what was seen."""
    flat = []
    for one in expected:
        flat += [one] if isinstance(one, str) else list(one)

    def register(body):
        add(body.__name__, number, sent, tuple(flat), body, **options)
        return body

    return register


def add(name, number, sent, expected, body, **options):
    assert all(test.name != name for test in TESTS), name
    TESTS.append(Test(name, number, sent, expected, body, options))
