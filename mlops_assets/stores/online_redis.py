"""The online store in Redis: one hash a generation, and a key that names the present one.

A request is one HMGET. The hash also holds its own description, so that one which Redis has evicted
or which was replaced is never taken for one that knows nothing. Credentials come with the address.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.lock import Lock
from redis.retry import Retry

from mlops_assets.stores.online_store import (
    DESCRIBED,
    OnlineStore,
    OnlineStoreError,
    Snapshot,
    decode,
    to_store,
    without_password,
)

WRITER_SECONDS = 30
"""How long Redis may take to answer who publishes or copies.

The lock of a publisher that was killed lasts as long.
"""
_BATCH = 1000
_WHY_GONE = "replaced, or evicted; give that Redis the policy noeviction"


class RedisStore(OnlineStore):
    """Online features in a Redis server.

    Args:
        uri: redis://[user:password@]host:port/db, or rediss:// for TLS.
        timeout: seconds that a look-up waits for an answer.
    """

    def __init__(self, uri: str, *, timeout: float, read_only: bool = False) -> None:
        super().__init__(without_password(uri), read_only=read_only)
        self._reader = _client(uri, timeout)
        self._writer = _client(uri, WRITER_SECONDS)

    def _write(self, snapshot: Snapshot, chunks: Iterator[tuple[bytes, bytes]]) -> None:
        try:
            name = f"{_pointer(snapshot.product)}:writer"
            with self._writer.lock(name, timeout=WRITER_SECONDS) as lock:
                self._publish(snapshot, chunks, lock)
        except redis.RedisError as error:
            raise self._failed(error) from None

    def snapshot(self, product: str) -> Snapshot:
        """See `OnlineStore`."""
        try:
            generation = self._reader.get(_pointer(product))
            if generation is None:
                raise self._nothing(product)
            about = self._reader.hget(_hash(product, generation.decode()), DESCRIBED)
        except redis.RedisError as error:
            raise self._failed(error) from None
        if about is None:
            raise self._gone(product, generation.decode(), _WHY_GONE)
        return decode(about)

    def get_many(self, snapshot: Snapshot, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `OnlineStore`."""
        name = _hash(snapshot.product, snapshot.generation)
        try:
            *found, about = self._reader.hmget(name, [*keys, DESCRIBED])
        except redis.RedisError as error:
            raise self._failed(error) from None
        if about is None:
            raise self._gone(snapshot.product, snapshot.generation, _WHY_GONE)
        return found

    def chunks(self, snapshot: Snapshot) -> Iterator[tuple[bytes, bytes]]:
        """See `OnlineStore`."""
        name = _hash(snapshot.product, snapshot.generation)
        try:
            for key, value in self._writer.hscan_iter(name, count=_BATCH):
                if key != DESCRIBED:
                    yield key, value
        except redis.RedisError as error:
            raise self._failed(error) from None

    def _publish(
        self, snapshot: Snapshot, chunks: Iterator[tuple[bytes, bytes]], lock: Lock
    ) -> None:
        client, pointer = self._writer, _pointer(snapshot.product)
        wanted = _hash(snapshot.product, snapshot.generation)
        before = client.get(pointer)
        fields = 1 + sum(held.chunks for held in snapshot.held.values())
        if client.hlen(wanted) != fields:
            # Known to whoever cleans up, should this process be killed halfway.
            client.sadd(f"{pointer}:all", snapshot.generation)
            client.unlink(wanted)
            pairs = to_store(snapshot, chunks)
            for begin in range(0, len(pairs), _BATCH):
                client.hset(wanted, mapping=dict(pairs[begin : begin + _BATCH]))
                lock.reacquire()
            if (there := client.hlen(wanted)) != fields:
                raise OnlineStoreError(f"{wanted} in {self.shown} has {there} of {fields} fields")
        client.set(pointer, snapshot.generation)
        keep = {before, snapshot.generation.encode()}
        if before == snapshot.generation.encode():
            return
        for other in client.smembers(f"{pointer}:all") - keep:
            client.unlink(_hash(snapshot.product, other.decode()))
            client.srem(f"{pointer}:all", other)

    def _failed(self, error: Exception) -> OnlineStoreError:
        return OnlineStoreError(f"the online store {self.shown} does not answer: {error}")


def _client(uri: str, timeout: float) -> Any:
    return redis.Redis.from_url(
        uri, socket_timeout=timeout, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0)
    )


def _pointer(product: str) -> str:
    return f"mlops:online:{product}"


def _hash(product: str, generation: str) -> str:
    return f"{_pointer(product)}:{generation}"
