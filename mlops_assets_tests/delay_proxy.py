"""A TCP proxy on loopback that hands on what it receives, as late as it is told to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_MOST = 65536


class DelayProxy:
    """Where it listens, and how long it holds back what comes from the server behind it."""

    def __init__(self, behind: int) -> None:
        self.delay = 0.0
        """Seconds; 0 hands on at once."""
        self._behind, self._ended = behind, threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Cut all connections, and accept no more."""
        self._ended.set()
        for each in [self._listening, *self._open]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                caller, _ = self._listening.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._behind))
            except OSError:
                caller.close()
                continue
            self._open += [caller, server]
            for source, target, late in ((caller, server, False), (server, caller, True)):
                ends = (source, target, late)
                threading.Thread(target=self._hand_on, args=ends, daemon=True).start()

    def _hand_on(self, source: socket.socket, target: socket.socket, late: bool) -> None:
        with suppress(OSError):
            while data := source.recv(_MOST):
                if late and self.delay:
                    self._ended.wait(self.delay)
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextmanager
def delay_proxy(behind: int) -> Iterator[DelayProxy]:
    """A proxy to the port `behind` of loopback, until the block ends."""
    proxy = DelayProxy(behind)
    try:
        yield proxy
    finally:
        proxy.close()
