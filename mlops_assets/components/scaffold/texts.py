"""The texts of a scaffolded folder; what is to be filled in stands in braces."""

RAW = '''"""{title}: what the source says, under a contract to edit."""

from datetime import date

import dagster as dg
import dataframely as dy
import polars as pl

from mlops_assets.components.tables import raw_table
from mlops_assets.stores.sources import open_source

# Where the rows come from. A password comes from the environment: PGPASSWORD, or $NAME in it.
{source}

# {about_days}
{days}


class {contract}(dy.Schema):
    """What a row must be; others go to the table's quarantine, with the rule that they break."""

{columns}


# More than 1 % of a day's rows against the contract withhold the day; `quality=` says otherwise.
{about_licence}{decorator}
def {name}(first: date, last: date) -> pl.DataFrame:
    """{about_rows}"""
    return SOURCE.rows({contract}, first, last)
'''

LICENCE = """# Fill in the licence, as "CC-BY-4.0" or "our own": under which terms may the data be
# used? Until it is stated no model is promoted.
"""

FEATURES = '''"""Feature tables: what was known of each {entity} when a prediction was asked for."""

{import_polars}from mlops_assets.components.tables import history
from {package}.raw import DAYS

# {what} by {entity}, as far as it was known.
# Other windows (days), other `by`?
{history}
'''

EXPRESSIONS = '''"""What a row's own time says: pure polars that training and the endpoint share."""

import polars as pl


def calendar() -> list[pl.Expr]:
    """Of `{time}` in local time, which is known whenever it is asked; weekday 1 is Monday."""
    at = pl.col("{time}").dt.convert_time_zone("{zone}").dt
    return {parts}
'''

DEFS = """type: mlops_assets.components.MLProduct

attributes:
  # The question that a prediction answers, in your words.
  description: {description}
  owners: ["team:data-science"]
  # {why}. binary, multiclass or regression.
  task: {task}
  # One row of {name}/{name} is one prediction.{about_lead}
  spine: {spine}
  # {about_label}
  label: {label}
  # What the model reads of a row, and the feature tables that are looked up for it.
  features:
    numeric: {numeric}
    categorical: {categorical}{tables}
{left_out}{serving}  # Last day of the first training set; later ones judge it. `families:` compete.
  training: {training}{gates}
# Every field, its unit and its default: `dg utils inspect-component {type}`.
"""

README = """# {name}

{description}

| file | what |
|---|---|
| `raw.py` | where the rows come from, their days, and what a row must be |
{more_rows}| `defs.yaml` | the product: what to predict, from what, how it is judged |
| `{test}` | the source keeps the contract, the declaration loads |

Written by `mlops new` from {count:,} rows. {task}: {why}.
Look at what was left out in `defs.yaml`, and at the bounds in `raw.py`, first.
{notes}
{leak}

```
dg check defs                  # a mistake is named with file and line
mlops demo {name}{space}      # the days arrive, and everything follows
mlops serve {name}{space}     # the promoted model answers
mlops profile {name}/{name} --label {label}
```
"""

TEST = '''"""The source of {name} keeps its contract, and the declaration loads."""

from datetime import timedelta

import dagster as dg

{imports}

NAME = "{name}"


def test_the_first_week_of_the_source_keeps_the_contract() -> None:
    """Every row of it."""
    first = named(raw.DAYS.get_first_partition_key())
    rows = function_of(raw.{name})(first, first + timedelta(days=6))
    _, broken = raw.{contract}.filter(rows)
    assert rows.height
    assert broken.counts() == {{}}


def test_the_declaration_loads() -> None:
    """With all that it names."""
    declared = dg.ComponentTree.for_project(repository()).load_component(NAME)
    assert getattr(declared, "task", None) == "{task}"
'''

EMPTY = """type: {type}

attributes:
  # The question that a prediction answers.
  description: What will be?
  owners: ["team:data-science"]
  # binary, multiclass or regression.
  task: binary
  # One row of this table, "domain/table", is one prediction; `date` is its local day. With a
  # clock also `time:`, a column in UTC, and `lead_hours:`, how long before it is asked.
  spine: {{table: {name}/{name}, entity_keys: [date, id]}}
  # The column to predict. With a clock also `known_after_days:`.
  label: {{column: outcome}}
  # What the model reads of a row; `tables:` name feature tables that are looked up for it.
  features:
    numeric: []
    categorical: []
  # The last day of the first training set; what comes later judges it.
  training: {{first_cutoff: "2000-05-09"}}
"""
