"""The embedded online store: one LMDB file a generation, and a pointer file that names the present.

`<folder>/<product>/<generation>/data.mdb` never changes once it is there, so that readers need no
lock, and one that still has an old file open goes on reading it after its folder was removed.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit
from weakref import WeakValueDictionary

import lmdb

from mlops_assets.stores.online_store import (
    DESCRIBED,
    OnlineStore,
    Snapshot,
    decode,
    to_store,
)

_POINTER = "present"
_NAME = re.compile(r"[A-Za-z0-9_]+")
_MARGIN = 2
_ENVIRONMENTS: WeakValueDictionary[str, lmdb.Environment] = WeakValueDictionary()
_OPENING = threading.Lock()


class LmdbStore(OnlineStore):
    """Online features in files under a folder."""

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        super().__init__(str(folder), read_only=read_only)
        self._folder = folder
        self._open: dict[str, lmdb.Environment] = {}

    @classmethod
    def at(cls, uri: str, *, read_only: bool = False) -> LmdbStore:
        """The store of `lmdb:///folder`.

        Raises:
            ValueError: the folder is not absolute.
        """
        parts = urlsplit(uri)
        if parts.netloc or not parts.path.startswith("/"):
            raise ValueError(f"{uri!r} names no folder; write it as lmdb:///folder")
        return cls(Path(unquote(parts.path)), read_only=read_only)

    def _write(self, snapshot: Snapshot, chunks: Iterator[tuple[bytes, bytes]]) -> None:
        with self._only_writer(snapshot.product) as folder:
            before = _pointed(folder)
            target = folder / snapshot.generation
            if before == snapshot.generation and target.exists():
                return
            if not target.exists():
                _create(target, snapshot, chunks)
            _point(folder, snapshot.generation)
            for other in folder.iterdir():
                if other.is_dir() and other.name not in (before, snapshot.generation):
                    shutil.rmtree(other)

    def snapshot(self, product: str) -> Snapshot:
        """See `OnlineStore`."""
        folder = self._of(product)
        for _ in range(2):
            generation = _pointed(folder)
            if generation is None:
                raise self._nothing(product)
            try:
                about = self._read(product, generation, [DESCRIBED])[0]
            except lmdb.Error:
                continue  # It was replaced twice since the pointer was read.
            if about is not None:
                return decode(about)
        raise self._gone(product, str(generation), "replaced")

    def get_many(self, snapshot: Snapshot, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `OnlineStore`."""
        try:
            return self._read(snapshot.product, snapshot.generation, keys)
        except lmdb.Error as error:
            raise self._gone(snapshot.product, snapshot.generation, error) from None

    def chunks(self, snapshot: Snapshot) -> Iterator[tuple[bytes, bytes]]:
        """See `OnlineStore`."""
        with self._environment(snapshot.product, snapshot.generation).begin() as reading:
            for key, value in reading.cursor():
                if key != DESCRIBED:
                    yield key, value

    def _read(self, product: str, generation: str, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._environment(product, generation).begin() as reading:
            get = reading.get
            return [get(key) for key in keys]

    def _environment(self, product: str, generation: str) -> lmdb.Environment:
        found = self._open.get(generation)
        if found is None:
            found = _opened(str(self._of(product) / generation))
            # Two are enough: that which answers, and the one before.
            self._open = dict([*self._open.items()][-1:]) | {generation: found}
        return found

    def _of(self, product: str) -> Path:
        if not _NAME.fullmatch(product):
            raise ValueError(f"{product!r} is no product's name; use letters, digits and _")
        return self._folder / product

    @contextmanager
    def _only_writer(self, product: str) -> Iterator[Path]:
        folder = self._of(product)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "writer.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield folder


def _opened(path: str) -> lmdb.Environment:
    """A generation to be read, opened once in this process: LMDB allows no second time."""
    with _OPENING:
        found = _ENVIRONMENTS.get(path)
        if found is None:
            found = lmdb.open(path, readonly=True, lock=False, create=False, max_dbs=0)
            _ENVIRONMENTS[path] = found
    return found


def _create(target: Path, snapshot: Snapshot, chunks: Iterator[tuple[bytes, bytes]]) -> None:
    unfinished = target.with_name(f"{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    pairs = to_store(snapshot, chunks)
    size = sum(len(k) + len(v) + 64 for k, v in pairs) * _MARGIN + len(pairs) * 4096 + 2**20
    with lmdb.open(str(unfinished), map_size=size, sync=False, lock=False) as environment:
        with environment.begin(write=True) as writing:
            writing.cursor().putmulti(pairs)
        environment.sync(True)
    unfinished.replace(target)


def _point(folder: Path, generation: str) -> None:
    unfinished = folder / f"{_POINTER}.unfinished"
    with unfinished.open("w") as file:
        file.write(generation)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(folder / _POINTER)


def _pointed(folder: Path) -> str | None:
    try:
        return (folder / _POINTER).read_text()
    except FileNotFoundError:
        return None
