"""A TCP proxy that can become a black hole: it keeps the connections open and forwards nothing any more."""

from __future__ import annotations

import contextlib
import socket
import threading
import time


class Connection:
    """A connection that is forwarded, by a thread for each direction."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.sockets = [near, far]
        self.drops_requests = self.drops_answers = False
        for one, other, answers in ((near, far, False), (far, near, True)):
            threading.Thread(target=self._forward, args=(one, other, answers), daemon=True).start()

    def _forward(self, one: socket.socket, other: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65_536):
                if not (self.drops_answers if answers else self.drops_requests):
                    other.sendall(data)
            # In a black hole, nobody hears that the other has gone.
            if not (self.drops_answers or self.drops_requests):
                other.shutdown(socket.SHUT_WR)


class Proxy:
    """Forwards connections to a port; `target` is the address to connect to."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connections: list[Connection] = []
        self.accepted_at: list[float] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.accepted_at.append(time.monotonic())
                try:
                    far = socket.create_connection(("127.0.0.1", self.port))
                except OSError:
                    near.close()
                    continue
                for each in (near, far):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections.append(Connection(near, far))

    def drop(self, *, requests: bool = True, answers: bool = True) -> float:
        """Drops everything on the connections that are open now; new ones are forwarded. The time it was done."""
        for connection in self.connections:
            connection.drops_requests, connection.drops_answers = requests, answers
        return time.monotonic()

    def close(self) -> None:
        self._listener.close()
        for connection in self.connections:
            for each in connection.sockets:
                each.close()
