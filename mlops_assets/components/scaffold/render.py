"""The files of a product's folder, from what was decided."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from textwrap import fill

import polars as pl
import yaml

from mlops_assets.components.scaffold import texts
from mlops_assets.components.scaffold.calendar import calendar, whole
from mlops_assets.components.scaffold.contract import columns
from mlops_assets.components.scaffold.decide import NUMBERED, Decided
from mlops_assets.components.scaffold.look import Table
from mlops_assets.components.scaffold.wanted import Wanted
from mlops_assets.ml.periods import DAYS

COMPONENT = "mlops_assets.components.MLProduct"
_WIDTH, _LINE = 96, 100
_LEAK = 0.99
"""Default of gates.leak_auc and gates.leak_explained."""
_OWNERS = 'owners=["team:data-science"]'
"""What a table says of itself; a person says it better."""


def render(
    wanted: Wanted, table: Table, decided: Decided, package: str, test: str
) -> dict[str, str]:
    """File name to text.

    Args:
        wanted: what was asked for.
        table: what was found.
        decided: what it becomes.
        package: the Python package of the folder.
        test: path of the test, which has the key "test" here.
    """
    contract = "".join(part.capitalize() for part in wanted.name.split("_"))
    files = {
        "__init__.py": f'"""The product {wanted.name}: its tables and its declaration."""\n',
        "raw.py": _raw(wanted, table, decided, contract),
        "defs.yaml": _defs(wanted, table, decided, package),
        "README.md": _readme(wanted, table, decided, test),
        "test": _test(wanted, decided, package, contract),
    }
    if decided.entity:
        files["features.py"] = _features(wanted, table, decided, package)
    if decided.calendar:
        files["expressions.py"] = _expressions(wanted, decided)
    return files


def _test(wanted: Wanted, decided: Decided, package: str, contract: str) -> str:
    imports = [
        "from mlops_assets.components.tables import function_of",
        f"from {package} import raw",
        "from mlops_assets.local import repository",
        "from mlops_assets.ml.periods import named",
    ]
    return texts.TEST.format(
        name=wanted.name,
        imports="\n".join(sorted(imports, key=lambda line: line.split()[1])),
        contract=contract,
        task=decided.task,
    )


def question(wanted: Wanted, decided: Decided) -> str:
    """The question in words that can be derived; a person has better ones."""
    hours = f"{wanted.lead_hours:g} hour{'s' * (wanted.lead_hours != 1)}"
    asked = f", asked {hours} before {decided.time}" if decided.time else ""
    says = "" if decided.positive is None else f" {decided.positive}"
    return f"{'Will' if decided.task == 'binary' else 'What will'} {decided.label} be{says}{asked}?"


def _raw(wanted: Wanted, table: Table, decided: Decided, contract: str) -> str:
    about = (
        f"The local {wanted.periods} that the source has. Leave end_date out of one that goes on."
        if decided.time
        else "Without a clock, rows are spread over these days at random, by a hash of their keys."
    )
    return texts.RAW.format(
        title=f"The table of {wanted.name}",
        name=wanted.name,
        contract=contract,
        source=_source(wanted, table, decided),
        about_licence="" if wanted.licence else texts.LICENCE,
        decorator=call(
            "@raw_table",
            ["days=DAYS", f"contract={contract}", _OWNERS, f"licence={_literal(wanted.licence)}"],
        ),
        about_days=about,
        about_rows=f"One row for each {' and '.join(decided.keys)} of the day.",
        days=_days(wanted, table, decided),
        columns="\n".join(
            f"    {line}" for line in columns(table, decided, hours=wanted.periods.every == "hour")
        ),
    )


def _days(wanted: Wanted, table: Table, decided: Decided) -> str:
    """The partitions; a week or month that is not whole is left out."""
    zone = wanted.zone if decided.time else "UTC"
    first, end = str(table.first), str(table.last + timedelta(days=1))
    if wanted.periods.every == "hour":
        first, end, zone = f"{first}-00:00", f"{end}-00:00", "UTC"
    elif wanted.periods != DAYS:
        come = whole(table, wanted.periods)
        first, end = str(come[0]), str(wanted.periods.step(come[-1]))
    said = [f'"{first}"', f'end_date="{end}"', f'timezone="{zone}"']
    if wanted.periods.every == "week":
        said.append("day_offset=1")  # Monday, as cron counts
    kind = wanted.partitioning.capitalize()
    return call(f"DAYS = dg.{kind}PartitionsDefinition", said)


def _source(wanted: Wanted, table: Table, decided: Decided) -> str:
    """The call of `open_source`."""
    said = [json.dumps(place(wanted.source), ensure_ascii=False)]
    if wanted.table:
        said.append(f"table={json.dumps(wanted.table, ensure_ascii=False)}")
    if decided.time:
        said += [f'time="{decided.time}"', f'zone="{wanted.zone}"']
    elif decided.keys == (NUMBERED,):
        said.append(f'row="{NUMBERED}"')
    else:
        said.append(f"keys={json.dumps(decided.keys)}")
    renamed = {s: own for s, own in table.names.items() if s != own and s in table.rows.columns}
    if renamed:
        said.append(f"names={json.dumps(renamed, ensure_ascii=False)}")
    return call("SOURCE = open_source", said)


def call(function: str, said: list[str], brackets: str = "()") -> str:
    """A call with its arguments on few lines, as the formatter would have it; or a dictionary."""
    begin, end = f"{function}{brackets[0]}", brackets[1]
    line = ", ".join(said)
    if len(f"{begin}{line}{end}") <= _LINE:
        return f"{begin}{line}{end}"
    if len(line) + 4 <= _LINE and end == ")":
        return f"{begin}\n    {line}\n{end}"
    lines = [""]
    for each in said:
        if len(lines[-1]) + len(each) > _WIDTH - len(",  "):
            lines.append("")
        lines[-1] += f" {each}," if lines[-1] else f"    {each},"
    return f"{begin}\n" + "\n".join(filter(None, lines)) + f"\n{end}  # fmt: skip"


def place(source: str) -> str:
    """A path from the root, or an address without its password."""
    if "://" not in source:
        return source if source.startswith("$") else str(Path(source).absolute())
    if source.startswith("sqlite:///") and not source.startswith("sqlite:////"):
        return f"sqlite:///{Path(source.removeprefix('sqlite:///')).absolute()}"
    # A variable of the environment may stand where a password does.
    return re.sub(r"(://[^:@/]*):[^@$][^@]*@", r"\1@", source)


def _features(wanted: Wanted, table: Table, decided: Decided, package: str) -> str:
    of, label = json.dumps(decided.label), table.rows[decided.label]
    if decided.positive is not None:
        of = f'pl.col("{decided.label}") == {_literal(decided.positive)}'
    elif label.dtype == pl.Float64:
        of = f'(pl.col("{decided.label}") * 1000).round()'
    what, shares = "The mean of the label", []
    if decided.shares:
        # Classes are told apart by their values, whatever type the label has.
        what = "The share of each frequent class"
        of, shares = json.dumps(decided.label), ["shares=SHARES"]
    name, entity, known_after = wanted.name, decided.entity, wanted.known_after_days
    said = [
        f'"{name}/{entity}_history"', f'table="{name}/{name}"', f'by=["{entity}"]', f"of={of}",
        *shares, "days=DAYS", f"known_after_days={known_after}",
        f"windows={list(calendar(table, wanted, known_after).windows)}", _OWNERS,
    ]  # fmt: skip
    return texts.FEATURES.format(
        what=what,
        entity=entity,
        package=package,
        import_polars="import polars as pl\n\n" if "pl." in of else "",
        history=_shares(decided) + call(f"{entity}_history = history", said),
    )


def _shares(decided: Decided) -> str:
    if not decided.shares:
        return ""
    said = [f'"{name}": {_literal(value)}' for name, value in decided.shares.items()]
    return call("SHARES = ", said, "{}") + "\n"


def _expressions(wanted: Wanted, decided: Decided) -> str:
    said = [f'at.{part}().alias("{name}")' for name, part in decided.calendar.items()]
    parts = f"[{', '.join(said)}]"
    if len(f"    return {parts}") > _LINE:
        parts = "".join(["[\n", *(f"        {each},\n" for each in said), "    ]"])
    return texts.EXPRESSIONS.format(time=decided.time, zone=wanted.zone, parts=parts)


def _literal(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _defs(wanted: Wanted, table: Table, decided: Decided, package: str) -> str:
    known_after = wanted.known_after_days if decided.time else 0
    days = calendar(table, wanted, known_after)
    spine: dict[str, object] = {
        "table": f"{wanted.name}/{wanted.name}", "entity_keys": ["date", *decided.keys],
    }  # fmt: skip
    label: dict[str, object] = {"column": decided.label}
    if decided.positive is not None:
        label["positive"] = decided.positive
    if decided.time:
        hours = wanted.lead_hours
        spine |= {"time": decided.time, "lead_hours": int(hours) if hours % 1 == 0 else hours}
        label["known_after_days"] = known_after
    looked_up = f"\n    tables: [{wanted.name}/{decided.entity}_history]" if decided.entity else ""
    return texts.DEFS.format(
        name=wanted.name,
        type=COMPONENT,
        description=flow(question(wanted, decided)),
        why=decided.why[0].upper() + decided.why[1:],
        task=decided.task,
        spine=flow(spine),
        label=flow(label),
        about_lead=" It is asked lead_hours before its time." if decided.time else "",
        about_label=_about_label(decided),
        numeric=_listed([*decided.numeric, *decided.calendar]),
        categorical=_listed(decided.categorical),
        tables=looked_up,
        left_out=_left_out(decided.left_out),
        serving=_serving(decided, package),
        training=flow({"first_cutoff": str(days.cutoff)} | days.training),
        gates=f"\n  gates: {flow(days.gates)}" if days.gates else "",
    )


def _about_label(decided: Decided) -> str:
    if decided.positive is not None:
        return "`positive` is the value that counts as yes; it is predicted how likely that is."
    if decided.time:
        return "Known so many local days after the row's own; it is not used before."
    return "The column that is predicted."


def _serving(decided: Decided, package: str) -> str:
    if not decided.calendar:
        return ""
    named = flow({"on_demand": f"{package}.expressions.calendar"})
    return f"  # {', '.join(decided.calendar)}: from the row's own time.\n  serving: {named}\n"


def _left_out(left_out: Mapping[str, str]) -> str:
    lines = [f"    # left out: {column}: {why}\n" for column, why in left_out.items()]
    return "".join(lines)


def _readme(wanted: Wanted, table: Table, decided: Decided, test: str) -> str:
    return texts.README.format(
        name=wanted.name,
        description=question(wanted, decided),
        count=table.count,
        task=decided.task.capitalize(),
        why=decided.why,
        test=test,
        label=decided.label,
        more_rows=_more_rows(decided),
        notes="\n" + "".join(f"- {note}\n" for note in decided.notes) if decided.notes else "",
        leak=_leak(decided),
        space=" " * max(1, 12 - len(wanted.name)),
    )


def _leak(decided: Decided) -> str:
    """When the gate on leaks stops a model, which columns may be why, and what then."""
    score, field = ("R²", "leak_explained") if decided.task == "regression" else ("AUC", "leak_auc")
    said = ", ".join(
        f"{column} {score} {alone:.3f}{' (left out)' * (column in decided.left_out)}"
        for column, alone in decided.telling.items()
    )
    text = (
        f"A model that explains nearly all ({score} {_LEAK:g}) is stopped by `leak_suspect`, a"
        " gate: mostly a column then knows what happened after the question. The most telling"
        f" columns, each alone: {said or 'none'}. If all that the model reads is known in time, and"
        f" the table is that easy, raise `{field}` under `gates:` in `defs.yaml`; 1 suspects none."
    )
    return fill(text, width=_LINE, break_long_words=False)


def _more_rows(decided: Decided) -> str:
    """Rows of the README's table on the files that not every product has."""
    rows = {
        "| `features.py` | feature tables, looked up as of each prediction |\n": decided.entity,
        "| `expressions.py` | what a row's own time says, also online |\n": decided.calendar,
    }
    return "".join(row for row, there in rows.items() if there)


def flow(value: object) -> str:
    """A value in YAML's flow style, on one line; words are bare where they stay words."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, str):
        plain = re.fullmatch(r"[A-Za-z_][\w/]*", value) and yaml.safe_load(value) == value
        return value if plain else json.dumps(value, ensure_ascii=False)
    if isinstance(value, Iterable):
        return "[" + ", ".join(flow(v) for v in value) + "]"
    return json.dumps(value)


def _listed(names: Iterable[str]) -> str:
    """A list of columns, over as many lines as it takes."""
    return fill(
        flow(list(names)), width=_WIDTH, subsequent_indent=" " * 6, break_long_words=False,
        initial_indent=" " * 17,
    ).lstrip()  # fmt: skip
