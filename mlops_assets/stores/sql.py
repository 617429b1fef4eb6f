"""SQL over the lakehouse: one reading statement, run by DuckDB on the tables that it names.

A table is addressed as nyc_flights.flight_events or as "nyc_flights/flight_events". DuckDB sees
polars' lazy scans, so that a filter or a choice of columns reads no more than it needs. No
extension is loaded; no file, network or setting is within reach of a statement. Times are UTC.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import polars as pl

from mlops_assets.stores.lakehouse import Lakehouse

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "enable_external_access": False,
    "python_enable_replacements": False,
}
_UNKNOWN = "does not exist"


class QueryError(ValueError):
    """The statement cannot be run; the message says why."""


def query(lakehouse: Lakehouse, sql: str) -> pl.DataFrame:
    """Return the rows that `sql` selects from the newest versions of the tables.

    `sql` is one statement that reads: SELECT, WITH, FROM, DESCRIBE or SUMMARIZE.

    Raises:
        QueryError: with DuckDB's message, and the tables there are where a name is unknown.
    """
    import duckdb

    with closing(duckdb.connect(":memory:", config=_CONFIG)) as connection:
        try:
            connection.execute("SET TimeZone = 'UTC'")
            _check_reads_only(connection, sql)
            for table in lakehouse.tables():
                # A word that only looks like the table's costs one look at its log, no more.
                if table.rpartition("/")[2] in sql.lower():
                    _offer(connection, lakehouse, table)
            connection.execute("SET lock_configuration = true")
            return connection.sql(sql).pl()
        except duckdb.Error as error:
            raise QueryError(_explained(str(error), lakehouse)) from None


def _check_reads_only(connection: DuckDBPyConnection, sql: str) -> None:
    from duckdb import StatementType

    kinds = [statement.type for statement in connection.extract_statements(sql)]
    if kinds != [StatementType.SELECT]:
        there = ", ".join(kind.name for kind in kinds) or "none"
        raise QueryError(
            f"one statement that reads is allowed, SELECT, WITH or DESCRIBE; found: {there}"
        )


def _offer(connection: DuckDBPyConnection, lakehouse: Lakehouse, table: str) -> None:
    """Make `table` known by its name, and by its folder as the schema."""
    connection.register(table, lakehouse.scan(table))
    folder, _, name = table.rpartition("/")
    if folder:
        connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{folder}"')
        connection.execute(f'CREATE VIEW "{folder}"."{name}" AS FROM "{table}"')


def _explained(error: str, lakehouse: Lakehouse) -> str:
    if _UNKNOWN not in error:
        return error
    return f"{error}\nTables: {', '.join(lakehouse.tables()) or 'none yet'}"
