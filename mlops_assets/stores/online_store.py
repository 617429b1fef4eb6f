"""The online store: what the feature tables know, as chunks of bytes that a server reads by key.

One class of store for each place: `lmdb:///folder` (embedded, the default) and
`redis://host:port/db`. A publication is a whole snapshot of a product; it appears at once, when the
pointer to its generation flips, and the generation before stays until the next one. A process that
is killed halfway leaves the present generation as it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from hashlib import blake2b
from urllib.parse import urlsplit

import msgspec

from mlops_assets.ml.online import Layout, Packed

FORMAT = 1
"""Of chunks and descriptions: content in another format is another generation."""
DESCRIBED = b"\x00"
"""Key of a generation's own description, beside its chunks, whose keys are longer."""


class OnlineStoreError(RuntimeError):
    """The store cannot be reached, or does not have what was asked for."""


class GenerationGone(OnlineStoreError):
    """A generation was replaced, so that it is not there any more; ask for the present one."""


@dataclass(frozen=True)
class Covered:
    """What a generation holds of a table, and of which version of it.

    Attributes:
        delta_version: the table's version in the lake.
        first_day: the first local day that is there; None for a table without days.
        known_from: first moment (UTC) at which a look-up gives what the lake gives; None for all.
        known_through: end (UTC) of its newest published local day.
    """

    delta_version: int
    first_day: date | None
    known_from: datetime | None
    known_through: datetime | None


@dataclass(frozen=True)
class Table:
    """A table of a snapshot: its packed rows, and what they cover."""

    packed: Packed
    covered: Covered


class Held(msgspec.Struct, frozen=True):
    """A table of a generation, without its chunks."""

    number: int
    layout: Layout
    covered: Covered
    keys: int
    chunks: int
    bytes: int


class Snapshot(msgspec.Struct, frozen=True):
    """A generation as it stands in a store: tables by name, and when it was published (UTC)."""

    generation: str
    product: str
    published_at: datetime
    held: dict[str, Held]

    @property
    def tables(self) -> dict[str, Covered]:
        """Table to what is covered of it."""
        return {name: held.covered for name, held in self.held.items()}


class OnlineStore(ABC):
    """What both kinds of store do.

    Args:
        shown: where it is, as messages may say it.
        read_only: it creates nothing.
    """

    def __init__(self, shown: str, *, read_only: bool = False) -> None:
        self.shown, self._read_only = shown, read_only

    def publish(self, product: str, tables: Mapping[str, Table], published_at: datetime) -> str:
        """Make a snapshot the present one; return its generation, the hash of its content.

        Content that is the present one already is left as it is.

        Raises:
            OnlineStoreError: it was opened to read only, or does not answer.
        """
        snapshot = described(product, tables, published_at)
        self.write(snapshot, all_chunks(snapshot, tables))
        return snapshot.generation

    def write(self, snapshot: Snapshot, chunks: Iterator[tuple[bytes, bytes]]) -> None:
        """Make a generation, whose chunks were packed elsewhere, the present one.

        Raises:
            GenerationGone: not all of its chunks are there.
            OnlineStoreError: it was opened to read only, or does not answer.
        """
        if self._read_only:
            raise OnlineStoreError(f"the online store {self.shown} was opened to read only")
        self._write(snapshot, chunks)

    @abstractmethod
    def _write(self, snapshot: Snapshot, chunks: Iterator[tuple[bytes, bytes]]) -> None:
        """Make a generation the present one where it is not; drop all but the one before."""

    @abstractmethod
    def snapshot(self, product: str) -> Snapshot:
        """The present generation of a product.

        Raises:
            OnlineStoreError: nothing was published yet, or the store does not answer.
        """

    @abstractmethod
    def get_many(self, snapshot: Snapshot, keys: Sequence[bytes]) -> list[bytes | None]:
        """The chunks of a generation by their keys (see `chunk_key`), None where there is none.

        Raises:
            GenerationGone: it was replaced twice since.
            OnlineStoreError: the store does not answer.
        """

    @abstractmethod
    def chunks(self, snapshot: Snapshot) -> Iterator[tuple[bytes, bytes]]:
        """All chunks of a generation, to copy it."""

    def _nothing(self, product: str) -> OnlineStoreError:
        return OnlineStoreError(
            f"{product} has nothing in the online store {self.shown}; materialize"
            f" {product}/online_features"
        )

    def _gone(self, product: str, generation: str, why: object) -> GenerationGone:
        return GenerationGone(
            f"generation {generation} of {product} is gone from {self.shown}: {why}"
        )


def open_store(uri: str, *, read_only: bool = False, timeout: float = 0.05) -> OnlineStore:
    """The store at `lmdb:///folder` or `redis://[user:password@]host:port/db`.

    Args:
        uri: where it is.
        read_only: a server's; it creates nothing.
        timeout: seconds that Redis may take to answer a reader.

    Raises:
        ValueError: no such kind of store.
    """
    kind = urlsplit(uri).scheme
    if kind == "lmdb":
        from mlops_assets.stores.online_lmdb import LmdbStore

        return LmdbStore.at(uri, read_only=read_only)
    if kind in ("redis", "rediss"):
        from mlops_assets.stores.online_redis import RedisStore

        return RedisStore(uri, timeout=timeout, read_only=read_only)
    raise ValueError(
        f"{without_password(uri)!r} is no online store; use lmdb:///folder or redis://host:port/0"
    )


def described(product: str, tables: Mapping[str, Table], published_at: datetime) -> Snapshot:
    """A snapshot of tables under its generation: the hash of the chunks and of what they cover."""
    digest = blake2b(b"%d" % FORMAT, digest_size=16)
    held = {}
    for number, (name, table) in enumerate(sorted(tables.items())):
        chunks, covered = table.packed.chunks, table.covered
        said = asdict(table.packed.layout) | asdict(covered) | {"delta_version": 0, "name": name}
        digest.update(msgspec.json.encode(said))
        for key in sorted(chunks):
            digest.update(b"%d:%d:%b%b" % (len(key), len(chunks[key]), key, chunks[key]))
        held[name] = Held(
            number,
            table.packed.layout,
            covered,
            table.packed.keys,
            len(chunks),
            sum(map(len, chunks.values())),
        )
    return Snapshot(digest.hexdigest(), product, published_at, held)


def chunk_key(number: int, name: bytes) -> bytes:
    """A chunk's key in the store: the table's number in its snapshot, then the chunk's name."""
    return number.to_bytes(2, "big") + name


def all_chunks(snapshot: Snapshot, tables: Mapping[str, Table]) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of all tables by their keys, in the order of the keys."""
    for name, held in snapshot.held.items():
        chunks = tables[name].packed.chunks
        for key in sorted(chunks):
            yield chunk_key(held.number, key), chunks[key]


def copy(source: OnlineStore, target: OnlineStore, product: str) -> Snapshot:
    """Keep the present generation of `source` in `target` too, where it is not there yet."""
    snapshot = source.snapshot(product)
    target.write(snapshot, source.chunks(snapshot))
    return snapshot


def to_store(
    snapshot: Snapshot, chunks: Iterator[tuple[bytes, bytes]]
) -> list[tuple[bytes, bytes]]:
    """All chunks of a generation in order, and its description last.

    Raises:
        GenerationGone: some are not there: it is being replaced where they come from.
    """
    there = sorted(dict(chunks).items())
    if len(there) != (wanted := sum(held.chunks for held in snapshot.held.values())):
        raise GenerationGone(
            f"generation {snapshot.generation} of {snapshot.product} gave {len(there)} of its"
            f" {wanted} chunks"
        )
    return [*there, (DESCRIBED, msgspec.json.encode(snapshot))]


def decode(text: bytes) -> Snapshot:
    """A snapshot's description from JSON.

    Raises:
        OnlineStoreError: it is in another format.
    """
    try:
        return msgspec.json.decode(text, type=Snapshot)
    except msgspec.DecodeError as error:
        raise OnlineStoreError(
            f"what is in the online store was published by other code ({error}); materialize the"
            " product's online_features"
        ) from None


def without_password(uri: str) -> str:
    """An address as messages may show it."""
    credentials, at, _ = urlsplit(uri).netloc.rpartition("@")
    return uri.replace(credentials + at, "", 1) if at else uri
