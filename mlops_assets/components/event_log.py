"""The local instance's event log: Dagster's consolidated SQLite log, with its engine kept.

Dagster's SQLite logs build a new database engine for each statement and wait for the disk several
times an event, 13 ms in all; a backfill of a year writes thousands of events. This one keeps the
engine, looks at the schema once, and lets SQLite sync at checkpoints (`synchronous=NORMAL` in WAL
mode: a killed process loses nothing). docs/decisions/local-event-log.md has the figures. Production
uses PostgreSQL, see deployments/.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as sa
from dagster._core.storage.event_log.sqlite.consolidated_sqlite_event_log import (
    ConsolidatedSqliteEventLogStorage,
)
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData


class LocalEventLog(ConsolidatedSqliteEventLogStorage):
    """One SQLite file under `$DAGSTER_HOME/events`, or under `base_dir`."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Where the file lies; the default follows DAGSTER_HOME."""
        return {"base_dir": dg.Field(dg.StringSource, is_required=False)}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> LocalEventLog:
        """Build it from dagster.yaml."""
        # Without DAGSTER_HOME Dagster's own stores are temporary too.
        home = os.environ.get("DAGSTER_HOME") or tempfile.mkdtemp(prefix="dagster-")
        folder = config_value.get("base_dir") or Path(home) / "events"
        return cls(base_dir=str(folder), inst_data=inst_data)

    @cached_property
    def _local(self) -> threading.local:
        return threading.local()

    def _engine(self) -> sa.Engine:
        # A forked child must not share its parent's connections.
        kept = getattr(self, "_kept", None)
        if kept is None or kept[0] != os.getpid():
            engine = sa.create_engine(
                self._conn_string, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS}
            )
            sa.event.listen(engine, "connect", _sync_at_checkpoints)
            self._kept = kept = (os.getpid(), engine)
        return kept[1]

    @contextmanager
    def _connect(self) -> Iterator[sa.Connection]:
        # What one call of the storage does is one transaction, also where it asks for a
        # connection again inside.
        inner = getattr(self._local, "connection", None)
        if inner is not None:
            yield inner
            return
        with self._engine().begin() as connection:
            self._local.connection = connection
            try:
                yield connection
            finally:
                self._local.connection = None

    def store_event(self, event: Any) -> None:
        """Store one event, in one transaction."""
        with self._connect():
            super().store_event(event)

    def store_event_batch(self, events: Any) -> None:
        """Store several events in one transaction."""
        with self._connect():
            super().store_event_batch(events)

    @cached_property
    def supports_asset_checks(self) -> bool:
        """Whether the schema has asset checks; it is looked up once."""
        return super().supports_asset_checks

    def dispose(self) -> None:
        """Stop watching and close the connections."""
        super().dispose()
        if kept := getattr(self, "_kept", None):
            kept[1].dispose()


def _sync_at_checkpoints(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA synchronous=NORMAL")
