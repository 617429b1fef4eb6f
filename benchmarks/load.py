"""A load generator that costs little: raw sockets, kept open, one request in flight on each.

    python -m benchmarks.load '{"port": 3000, "path": "/predict", "bodies": "bodies.json",
                                "concurrency": 16, "requests": 2000, "seconds": 20, "first": 0}'

The bodies are sent in turn, from the `first` on. It ends after so many requests or seconds. The
last line printed is JSON: seconds, answered, failed (other than 200, or cut off), latencies in ms.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

HOST = "127.0.0.1"


@dataclass
class Connection:
    """One socket; `begun` is when its request was sent, `read` what came of the answer."""

    socket: socket.socket
    begun: float = 0.0
    read: bytes = b""


@dataclass
class Load:
    """What is asked, and what became of it."""

    port: int
    requests: list[bytes]
    concurrency: int
    limit: int
    seconds: float
    latencies: list[float] = field(default_factory=list)
    failed: int = 0
    sent: int = 0

    def run(self) -> float:
        """Send and receive until enough; gives the seconds that it took."""
        selector = selectors.DefaultSelector()
        turn = cycle(self.requests)
        for _ in range(self.concurrency):
            made = socket.create_connection((HOST, self.port), timeout=10)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(made, selectors.EVENT_READ, Connection(made))
        begun = time.perf_counter()
        end = begun + self.seconds
        for key in list(selector.get_map().values()):
            self._send(key.data, next(turn))
        open_ = self.concurrency
        while open_ and time.perf_counter() < end:
            for key, _ in selector.select(timeout=1):
                if not self._receive(key.data):
                    continue
                if self.sent < self.limit:
                    self._send(key.data, next(turn))
                else:
                    selector.unregister(key.data.socket)
                    open_ -= 1
        taken = time.perf_counter() - begun
        for key in list(selector.get_map().values()):
            key.data.socket.close()
        return taken

    def _send(self, connection: Connection, request: bytes) -> None:
        connection.begun, connection.read = time.perf_counter(), b""
        connection.socket.sendall(request)
        self.sent += 1

    def _receive(self, connection: Connection) -> bool:
        """Whether the answer is complete now."""
        got = connection.socket.recv(65_536)
        connection.read += got
        head, found, body = connection.read.partition(b"\r\n\r\n")
        if got and (not found or len(body) < _length(head, body)):
            return False
        if not got or not head.startswith(b"HTTP/1.1 200"):
            self.failed += 1
        self.latencies.append(time.perf_counter() - connection.begun)
        return True


def _length(head: bytes, body: bytes) -> int:
    """Bytes that the body has; of a chunked one at least one more than there are until it ends."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return len(body) if body.endswith(b"0\r\n\r\n") else len(body) + 1


def request(path: str, body: bytes) -> bytes:
    """A POST of JSON over a connection that stays open."""
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def main(text: str) -> None:
    """Run one load and print what became of it."""
    asked = json.loads(text)
    bodies = [
        request(asked["path"], body.encode())
        for body in json.loads(Path(asked["bodies"]).read_text())
    ]
    first = asked["first"] % len(bodies)
    bodies = bodies[first:] + bodies[:first]
    load = Load(asked["port"], bodies, asked["concurrency"], asked["requests"], asked["seconds"])
    seconds = load.run()
    ordered = sorted(load.latencies) or [float("nan")]
    found = {
        "seconds": seconds,
        "answered": len(load.latencies) - load.failed,
        "failed": load.failed,
        **{f"p{p}_ms": 1000 * ordered[len(ordered) * p // 100] for p in (50, 95, 99)},
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
