"""Loads everything under defs/, piece by piece: a broken piece is named and shown, the rest loads.

A piece is a folder with a defs.yaml, or a Python file. One that fails is left out of the graph; in
its place stands the asset `<folder>/declaration`, which lists what is wrong with file and line.
`dg check defs` gets all problems of all pieces as one error.
"""

from __future__ import annotations

import logging
import os
import re
import traceback
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import dagster as dg
import yaml
from dagster._utils.warnings import suppress_dagster_warnings
from dagster.components.core.component_tree import ComponentTree, ComponentTreeException
from dagster.components.core.context import ComponentDeclLoadContext
from dagster.components.core.decl import (
    ComponentDecl,
    DefsFolderDecl,
    build_filesystem_component_decl_from_context,
)
from dagster.components.core.defs_module import (
    EXPLICITLY_IGNORED_GLOB_PATTERNS,
    ComponentLoc,
    ComponentPath,
    find_defs_or_component_yaml,
)
from pydantic import ValidationError
from pydantic_core import ErrorDetails

DECLARATION = "declaration"
BROKEN = {"mlops/broken": DECLARATION}
"""Tag of the asset that stands for a broken piece."""

log = logging.getLogger("mlops")


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong, and where it is written."""

    file: Path
    line: int
    says: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.says}"


class BrokenDeclaration(Exception):
    """All that is wrong with one piece or with several."""

    def __init__(self, problems: Iterable[Problem], note: str = "") -> None:
        self.problems = sorted(set(problems))
        super().__init__("\n".join([*map(str, self.problems), *([note] if note else [])]))


@suppress_dagster_warnings
def load_defs(path_within_project: Path) -> dg.Definitions:
    """As `dg.load_from_defs_folder`: the definitions of defs/, less what fails.

    Raises:
        BrokenDeclaration: a piece is broken, and this is `dg check defs`, or the rest does not
            stand without it (resources, say).
    """
    tree = Pieces.for_project(path_within_project)
    whole = tree.build_defs()
    if not tree.broken:
        return whole
    problems = [problem for found in tree.broken.values() for problem in found]
    if os.environ.get("DAGSTER_IS_DEFS_VALIDATION_CLI"):
        raise BrokenDeclaration(problems)
    rest = dg.Definitions.merge(whole, dg.Definitions(assets=_stand_ins(tree.broken)))
    try:
        dg.Definitions.validate_loadable(rest)
    except Exception as error:
        note = f"Nothing is loaded, since the rest does not stand without it: {error}"
        raise BrokenDeclaration(problems, note) from error
    for problem in sorted(set(problems)):
        log.error("%s", problem)
    return rest


def where(error: BaseException, within: Path) -> tuple[Path, int] | None:
    """File and line below `within` that an error comes from; None if from elsewhere."""
    if isinstance(error, SyntaxError) and error.filename:
        return Path(error.filename), error.lineno or 1
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if Path(frame.filename).is_relative_to(within):
            return Path(frame.filename), frame.lineno or 1
    return None


def told(error: BaseException) -> str:
    """An error in one line, with the file and line of ours that raised it; for an except clause."""
    says = error.msg if isinstance(error, SyntaxError) else str(error).partition("\n")[0]
    frames = traceback.extract_tb(error.__traceback__)[1:]
    places = [(f.filename, f.lineno) for f in frames if "/lib/python3" not in f.filename]
    if isinstance(error, SyntaxError):
        places.append((str(error.filename), error.lineno))
    place = f" ({Path(places[-1][0]).name}:{places[-1][1]})" if places else ""
    return f"{type(error).__name__}: {says}{place}"


class Pieces(ComponentTree):
    """Dagster's component tree; a piece that fails is kept in `broken` and gives no definitions."""

    @cached_property
    def broken(self) -> dict[ComponentPath, list[Problem]]:
        """What is wrong with each piece that failed."""
        return {}

    def build_defs(self, loc: ComponentLoc | Path | str | None = None) -> dg.Definitions:
        """As Dagster's; of a broken piece, nothing."""
        try:
            return super().build_defs(loc)
        except Exception as error:
            self._note(loc, error)
            return dg.Definitions()

    def load_structural_component_at_loc(self, loc: ComponentLoc | Path | str) -> dg.Component:
        """As Dagster's; of a broken piece, a component without definitions."""
        try:
            return super().load_structural_component_at_loc(loc)
        except Exception as error:
            self._note(loc, error)
            return _Nothing()

    def _get_filesystem_decl(self) -> ComponentDecl:
        loc = ComponentPath.from_path(self.defs_module_path)
        if self.state_tracker.get_cache_data(loc).component_decl is None:
            decl = self._decl(self.decl_load_context.for_component_loc(loc))
            self.state_tracker.set_cache_data(loc, component_decl=decl)
        return super()._get_filesystem_decl()

    def _decl(self, context: ComponentDeclLoadContext) -> ComponentDecl | None:
        if _is_piece(context.path):
            try:
                return build_filesystem_component_decl_from_context(context)
            except Exception as error:
                self._note(ComponentPath.from_path(context.path), error)
                return None
        children: dict[Path, ComponentDecl] = {}
        for path in sorted(context.path.iterdir()):
            if any(Path(path.name).match(pattern) for pattern in EXPLICITLY_IGNORED_GLOB_PATTERNS):
                continue
            if decl := self._decl(context.for_component_loc(ComponentPath.from_path(path))):
                children[path] = decl
        loc = ComponentPath.from_path(context.path)
        if not children and context.path != self.defs_module_path:
            return None
        return DefsFolderDecl(
            context=context, loc=loc, children=children, source_tree=None, component_file_model=None
        )

    def _note(self, loc: ComponentLoc | Path | str | None, error: Exception) -> None:
        """Keep what is wrong with a piece; what is none, say a folder that cannot merge, raises."""
        if not isinstance(loc, ComponentPath) or not _is_piece(loc.file_path):
            raise error
        problems = _problems(error, loc.file_path, self.defs_module_path)
        self.broken.setdefault(loc, [self._relative(problem) for problem in problems])

    def _relative(self, problem: Problem) -> Problem:
        if not problem.file.is_relative_to(self.project_root):
            return problem
        return Problem(problem.file.relative_to(self.project_root), problem.line, problem.says)


class _Nothing(dg.Component):
    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        return dg.Definitions()


def _is_piece(path: Path) -> bool:
    return path.is_file() or find_defs_or_component_yaml(path) is not None


def _problems(error: BaseException, piece: Path, defs: Path) -> list[Problem]:
    while isinstance(error, ComponentTreeException) and error.__cause__:
        error = error.__cause__
    if isinstance(error, BrokenDeclaration):
        return error.problems
    file = find_defs_or_component_yaml(piece) or piece
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return [Problem(file, error.problem_mark.line + 1, f"not YAML: {error.problem}")]
    if isinstance(error, ValidationError):
        return [_misfit(wrong, file) for wrong in error.errors(include_url=False)]
    file, line = where(error, defs) or (file, 1)
    says = error.msg if isinstance(error, SyntaxError) else str(error)
    return [Problem(file, line, f"{type(error).__name__}: {says}")]


def _misfit(wrong: ErrorDetails, file: Path) -> Problem:
    """Of another component's fields, which Dagster names as `attributes.field at file:line`."""
    field, _, place = ".".join(map(str, wrong["loc"])).partition(" at ")
    line = place.rpartition(":")[2]
    says = f"{field}: {wrong['input']!r}: {wrong['msg']}"
    return Problem(file, int(line) if line.isdigit() else 1, says)


def _stand_ins(broken: Mapping[ComponentPath, list[Problem]]) -> list[dg.AssetSpec]:
    """One asset for each folder in which something is broken."""
    by_folder: dict[str, set[Problem]] = defaultdict(set)
    for loc, problems in broken.items():
        folder = loc.file_path.parent if loc.file_path.is_file() else loc.file_path
        by_folder[re.sub(r"\W", "_", folder.name)] |= set(problems)
    return [
        dg.AssetSpec(
            key=[folder, DECLARATION],
            group_name=folder,
            kinds={"yaml"},
            tags=BROKEN,
            description="This does not load until it is mended:\n\n"
            + "\n".join(f"- `{p.file}:{p.line}` {p.says}" for p in sorted(problems)),
        )
        for folder, problems in sorted(by_folder.items())
    ]
