"""`mlops …`: help with examples, a look into a small lake, and errors that say what to do."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from click.testing import Result
from typer.testing import CliRunner

import mlops_assets
from mlops_assets.cli import app
from mlops_assets.local import prepare
from mlops_assets.stores.lakehouse import Commit, Lakehouse, TableNotFound

COMMANDS = [command.callback.__name__ for command in app.registered_commands]
AIRLINES = pl.DataFrame({"carrier": ["HA", "UA"], "name": ["Hawaiian", "United"]})


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local environment of the test's own."""
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


@pytest.fixture
def lake(home: Path) -> Lakehouse:
    """Two versions of one table."""
    lake = Lakehouse(home / "lake")
    lake.overwrite("nyc_flights/airlines", AIRLINES.head(1), Commit(run_id="first"))
    lake.overwrite("nyc_flights/airlines", AIRLINES, Commit(run_id="second"))
    return lake


def mlops(*arguments: str) -> Result:
    """Run a command; one that ends in anything but an exit code fails the test."""
    result = CliRunner().invoke(app, arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def refused(*arguments: str) -> str:
    """The message of a command that is refused, on one line."""
    result = mlops(*arguments)
    assert result.exit_code != 0
    assert "Traceback" not in result.output
    return " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_shows_an_example_on_a_line_of_its_own(command):
    lines = [line.strip() for line in mlops(*command.split(), "--help").output.splitlines()]
    assert [line for line in lines if line.startswith(f"mlops {command}".strip())]
    assert [line for line in lines if line.count("mlops ") > 1] == []


def test_tables_lists_what_is_there(lake):
    assert "nyc_flights/airlines" in mlops("tables").output
    (row,) = json.loads(mlops("tables", "--json").output)
    assert row | {"written": ""} == {
        "table": "nyc_flights/airlines",
        "rows": 2,
        "columns": 2,
        "version": 1,
        "written": "",
        "operation": "WRITE",
    }


def test_profile_describes_each_column_and_names_suspects(home):
    rows = pl.DataFrame({"late": [0, 1] * 300, "told": ["no", "yes"] * 300, "at": range(600)})
    Lakehouse(home / "lake").overwrite("shop/orders", rows, Commit(run_id="first"))
    found = json.loads(mlops("profile", "shop/orders", "--label", "late", "--json").output)
    assert {row["column"] for row in found if "leak suspect" in row["note"]} == {"told"}
    assert "1 leak suspects: told" in mlops("profile", "shop/orders", "--label", "late").output
    assert "no column 'latte'" in refused("profile", "shop/orders", "--label", "latte")
    assert "shop/order" in refused("profile", "shop/order")


def test_a_tables_name_is_never_cut(home):
    name = "flight_delays/fit_hist_gradient_boosting"
    Lakehouse(home / "lake").overwrite(name, AIRLINES, Commit(run_id="test"))
    assert name in mlops("tables").output


def test_an_empty_lake_says_how_to_fill_it():
    result = mlops("tables")
    assert result.exit_code == 0
    assert "make demo" in result.output


def test_sql_answers_for_people_spreadsheets_and_machines(lake):
    query = "select carrier, name from nyc_flights.airlines order by carrier"
    assert "Hawaiian" in mlops("sql", query).output
    assert mlops("sql", query, "--csv").output == AIRLINES.write_csv()
    assert json.loads(mlops("sql", query, "--json").output) == AIRLINES.to_dicts()
    assert "choose one of" in refused("sql", query, "--csv", "--json")


def test_a_query_of_a_table_that_is_not_there_names_it_and_those_that_are(lake):
    result = mlops("sql", "select * from nyc_flights.airline")
    assert result.exit_code == 2
    assert '"nyc_flights.airline" does not exist' in result.output
    assert "Tables: nyc_flights/airlines" in result.output


def test_a_message_keeps_its_brackets(lake):
    assert "name [red] does not exist" in refused("sql", 'select * from "[red]"')


@pytest.mark.parametrize(
    "query", ["drop table nyc_flights.airlines", "selec 1", "select 1; select 2"]
)
def test_a_query_that_cannot_be_run_changes_nothing(lake, query):
    assert mlops("sql", query).exit_code == 2
    assert lake.version("nyc_flights/airlines") == 1


def test_read_gives_any_version(lake):
    assert mlops_assets.read("nyc_flights/airlines").collect().equals(AIRLINES)
    assert mlops_assets.read("nyc_flights/airlines", version=0).collect().height == 1
    with pytest.raises(TableNotFound, match="it has 0 to 1"):
        mlops_assets.read("nyc_flights/airlines", version=2)
    with pytest.raises(TableNotFound, match="tables: nyc_flights/airlines"):
        mlops_assets.read("nyc_flights/airline")


@pytest.mark.parametrize(
    "command",
    [
        ["approve", "--by", "Ada"],
        ["retrain"],
        ["cases"],
        ["decide", "--verdict", "wait", "--by", "Ada"],
        ["rollback", "--by", "Ada"],
    ],
)
def test_a_product_that_is_not_there(command):
    message = refused(command[0], "flight_delay", *command[1:])
    assert "no product 'flight_delay'; there are departure_demand, flight_delays" in message


def test_a_day_that_is_none():
    assert "'tomorrow' is not a day; write it as 2013-11-30" in refused(
        "demo", "--through", "tomorrow"
    )


def test_a_cutoff_that_is_no_day_or_too_late(lake):
    schedule = pl.DataFrame({"date": [date(2013, 1, 5)], "flight": [51]})
    lake.append("nyc_flights/flight_schedule", schedule, Commit(run_id="test"), by="date")
    message = refused("retrain", "flight_delays", "--cutoff", "tomorrow")
    assert "cutoff 'tomorrow' is not a day; write it as 2013-01-03" in message
    message = refused("retrain", "flight_delays", "--cutoff", "2013-01-04")
    assert "cutoff 2013-01-04 is after 2013-01-03, the newest day whose labels are known" in message


def test_without_a_case_there_is_nothing_to_list_or_to_settle(lake):
    assert "flight_delays has no retrain case" in mlops("cases", "flight_delays").output
    assert json.loads(mlops("cases", "flight_delays", "--json").output) == []
    settled = refused("decide", "flight_delays", "--verdict", "retrain", "--by", "Ada")
    assert "flight_delays has no open case; `mlops retrain flight_delays` opens one" in settled
    odd = refused("decide", "flight_delays", "--verdict", "perhaps", "--by", "Ada")
    assert "'perhaps' is no verdict; write retrain or wait" in odd


def test_a_rollback_needs_a_version_that_served(lake):
    assert "no earlier champion that could come back" in refused(
        "rollback", "flight_delays", "--by", "Ada"
    )


def test_nothing_arrives_past_the_end_of_the_source():
    prepare()
    with dg.DagsterInstance.get() as instance:
        for table in ("flight_events", "flight_schedule", "weather"):
            key = dg.AssetKey(["nyc_flights", table])
            last = dg.AssetMaterialization(key, partition="2013-12-31")
            instance.report_runless_asset_event(last)
    assert "the source ends with 2013-12-31; there is no further day" in refused("advance")
