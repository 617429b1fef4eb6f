"""Tables of a database through SQLAlchemy: SQLite and PostgreSQL, read-only.

Values are bound and names are quoted; nothing is pasted into SQL. SQLite has no types to rely on,
so its values are text until they are asked for in a type. A password is never printed: it comes
from the environment (PGPASSWORD, or `$NAME` in the address).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import polars as pl

from mlops_assets.stores.source_files import SourceError
from mlops_assets.stores.sources.base import NUMBER, ROUGHLY, SPREAD, WHOLE, Days, Source
from mlops_assets.stores.sources.times import UTC_TIME

if TYPE_CHECKING:
    import sqlalchemy as sa

_AT_ONCE = 50_000
"""Rows that are fetched together."""
_CONNECT_SECONDS = 10


class DatabaseSource(Source):
    """A table or view of a database."""

    @property
    def where(self) -> str:
        """The address without its password, and the table."""
        masked = re.sub(r"(://[^:@/]*):[^@]*@", r"\1:***@", self.address)
        return f"{masked}, table {self.table!r}"

    def schema(self) -> pl.Schema:
        """See `Source`; of SQLite all is text."""
        with self._connected() as connection:
            return pl.Schema(self._kinds(connection))

    def scan(self, columns: Sequence[str], roughly: Days | None = None) -> pl.LazyFrame:
        """See `Source`; the database gives the days asked for and hardly more."""
        with self._connected() as connection:
            kinds = self._kinds(connection)
            query = self._query(columns)
            if roughly is not None:
                query = query.where(self._near(kinds[self.own(self.time)], roughly))
            return self._fetched(connection, query, {c: kinds[c] for c in columns}).lazy()

    def sample(self, rows: int) -> tuple[pl.DataFrame, int]:
        """See `Source`; evenly over what the database gives."""
        import sqlalchemy as sa

        with self._connected() as connection:
            kinds = self._kinds(connection)
            table = self._table(list(kinds))
            count = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            query = self._query(list(kinds))
            if count > rows:
                number = sa.func.row_number().over().label(NUMBER)
                numbered = sa.select(*table.columns, number).subquery()
                own = (c for c in numbered.columns if c.name != NUMBER)
                place = numbered.columns[NUMBER] * SPREAD % WHOLE
                query = sa.select(*own).where(place < WHOLE * rows // count).limit(rows)
            return self._fetched(connection, query, kinds), int(count)

    @cached_property
    def _engine(self) -> sa.Engine:
        import sqlalchemy as sa

        if not self.table:
            raise SourceError(f"{self.where}: name the table of the database (--table)")
        try:
            url = sa.make_url(self.address)
        except sa.exc.ArgumentError:
            raise SourceError(
                f"{self.where}: no address of a database; as in sqlite:///file.db or"
                " postgresql://user@host/database"
            ) from None
        if url.get_backend_name() == "sqlite":
            return sa.create_engine(self._read_only(url.database or ""), poolclass=sa.NullPool)
        options = {
            "connect_timeout": _CONNECT_SECONDS, "options": "-c default_transaction_read_only=on",
        }  # fmt: skip
        try:
            return sa.create_engine(
                url.set(drivername="postgresql+psycopg"), connect_args=options,
                poolclass=sa.NullPool,
            )  # fmt: skip
        except ModuleNotFoundError as error:
            raise SourceError(
                f"{self.where}: {error.name} is not installed;"
                " pip install 'mlops-assets[postgresql]'"
            ) from None

    def _read_only(self, path: str) -> str:
        if not Path(path).is_file():
            raise SourceError(f"{self.where}: there is no such file")
        return f"sqlite:///file:{quote(str(Path(path).absolute()))}?mode=ro&uri=true"

    @contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        import sqlalchemy as sa

        try:
            with self._engine.connect() as connection:
                yield connection
        except sa.exc.SQLAlchemyError as error:
            says = str(getattr(error, "orig", None) or error).strip().replace("\n", " ")
            password = sa.make_url(self.address).password
            if password:
                says = says.replace(str(password), "***")
            raise SourceError(f"{self.where}: the database says: {says}") from None

    def _kinds(self, connection: sa.Connection) -> dict[str, pl.DataType]:
        """Its columns, and the types in which their values come."""
        import sqlalchemy as sa

        schema, name = self._named
        looked = sa.inspect(connection)
        try:
            columns = looked.get_columns(name, schema=schema)
        except sa.exc.NoSuchTableError:
            there = [*looked.get_table_names(schema), *looked.get_view_names(schema)]
            near = get_close_matches(name, there, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise SourceError(
                f"{self.where}: there is no such table; {hint}There are {', '.join(sorted(there))}"
            ) from None
        if self._is_sqlite:
            return {c["name"]: pl.String() for c in columns}
        return {c["name"]: _kind(c["type"]) for c in columns}

    @property
    def _is_sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    @property
    def _named(self) -> tuple[str | None, str]:
        schema, _, name = self.table.rpartition(".")
        return schema or None, name

    def _table(self, columns: Sequence[str]) -> sa.TableClause:
        import sqlalchemy as sa

        schema, name = self._named
        return sa.table(
            sa.quoted_name(name, quote=True), *(_column(c) for c in columns),
            schema=sa.quoted_name(schema, quote=True) if schema else None,
        )  # fmt: skip

    def _query(self, columns: Sequence[str]) -> sa.Select[Any]:
        import sqlalchemy as sa

        return sa.select(*self._table(columns).columns)

    def _near(self, kind: pl.DataType, days: Days) -> sa.ColumnElement[bool]:
        """Rows of the days and a little more, and all that have no time to go by."""
        import sqlalchemy as sa

        column = _column(self.own(self.time))
        low, high = days[0] - ROUGHLY, days[1] + ROUGHLY
        unknown: sa.ColumnElement[bool] = column.is_(None)
        if kind == pl.String:
            bounds: list[Any] = [low.isoformat(), high.isoformat()]
            unknown = unknown | ~sa.cast(column, sa.String).like("____-__-__%")
        elif kind == pl.Date:
            bounds = [low, high]
        else:
            zone = UTC if getattr(kind, "time_zone", None) else None
            bounds = [datetime.combine(day, time(0), zone) for day in (low, high)]
        return column.between(*bounds) | unknown

    def _fetched(
        self, connection: sa.Connection, query: sa.Select[Any], kinds: dict[str, pl.DataType]
    ) -> pl.DataFrame:
        streamed = connection.execution_options(stream_results=True).execute(query)
        frames = [pl.DataFrame(schema=kinds)]
        for part in streamed.partitions(_AT_ONCE):
            columns = zip(*part, strict=True)
            frames.append(
                pl.DataFrame(
                    [
                        self._series(c, v, k)
                        for (c, k), v in zip(kinds.items(), columns, strict=True)
                    ]
                )
            )
        return pl.concat(frames)

    def _series(self, name: str, values: Sequence[Any], kind: pl.DataType) -> pl.Series:
        if kind == pl.String:
            values = [v if v is None or isinstance(v, str) else self._text(name, v) for v in values]
        elif kind == pl.Float64:
            values = [None if v is None else float(v) for v in values]
        elif kind == UTC_TIME:
            values = [None if v is None else v.astimezone(UTC) for v in values]
        return pl.Series(name, values, dtype=kind)

    def _text(self, name: str, value: Any) -> str:
        if isinstance(value, bytes):
            try:
                return value.decode("utf-8")
            except UnicodeDecodeError:
                raise SourceError(
                    f"{self.where}: column {name!r} holds the bytes {value[:4].hex(' ')}, which are"
                    " not UTF-8"
                ) from None
        return value.isoformat() if isinstance(value, date) else str(value)


def _column(name: str) -> sa.ColumnClause[Any]:
    import sqlalchemy as sa

    return sa.column(sa.quoted_name(name, quote=True))


def _kind(column: Any) -> pl.DataType:
    """The polars type of a column of PostgreSQL; text for what has none."""
    import sqlalchemy as sa

    if isinstance(column, sa.Boolean):
        return pl.Boolean()
    if isinstance(column, sa.Integer):
        return pl.Int64()
    if isinstance(column, sa.Numeric):  # of which sa.Float is one
        return pl.Float64()
    if isinstance(column, sa.DateTime):
        return UTC_TIME if column.timezone else pl.Datetime("us")
    return pl.Date() if isinstance(column, sa.Date) else pl.String()
