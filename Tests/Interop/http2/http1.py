"""What is sent over HTTP/1.1 gets an answer of HTTP, and the connection's end."""

import socket

from .peer import GET_HEAD, context


def exchange(target, ca, content, seconds=5):
    """What comes back for these bytes under ALPN http/1.1, until the connection ends."""
    host, port = target.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=seconds) as plain:
        with context(ca, ["http/1.1"]).wrap_socket(plain) as secure:
            try:
                secure.sendall(content)
            except OSError:
                pass
            answer = b""
            while True:
                try:
                    part = secure.recv(65_536)
                except OSError:
                    return answer
                if not part:
                    return answer
                answer += part


EXCHANGES = [
    (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 404 "),
    (b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 404 "),
    (b"POST " + GET_HEAD.encode() + b" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/grpc\r\n"
     b"Content-Length: 2\r\n\r\n{}", b"HTTP/1.1 415 "),
    (b"POST " + GET_HEAD.encode() + b" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
     b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", b"HTTP/1.1 415 "),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
     b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", b"HTTP/1.1 404 "),
    # Nothing of that is HTTP/1.1: the connection ends, with an answer of 400 or none.
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", None),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 50, None),
    (b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000 + b"\r\n\r\n", None),
]


def faults(target, ca):
    """What was not as it should be, a line each."""
    for content, expected in EXCHANGES:
        shown = content[:60]
        try:
            answer = exchange(target, ca, content)
        except OSError as error:
            yield f"{shown!r}: {error}"
            continue
        if expected is None and answer and not answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 ", b"HTTP/1.1 431 ")):
            yield f"{shown!r} got {answer[:100]!r}"
        if expected is not None:
            head, _, body = answer.partition(b"\r\n\r\n")
            if not head.startswith(expected):
                yield f"{shown!r} got {answer[:100]!r}, not {expected!r}"
            elif b"connection: close" not in head.lower():
                yield f"{shown!r}: the answer does not say that the connection ends"
            elif content.startswith(b"HEAD") == bool(body):
                yield f"{shown!r}: the answer's body is {body!r}"
