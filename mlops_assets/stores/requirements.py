"""The packages that code imports, and their installed versions with all that they need, as pins.

An image made from such pins holds what a model was tried with, not what an index offers on the day.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version


def imported_packages(sources: Iterable[bytes], ours: Collection[str]) -> set[str]:
    """Return the packages, as an index names them, that Python `sources` import.

    Imports inside functions count, those for type checking alone do not.

    Args:
        sources: modules as files hold them.
        ours: top-level modules that come with `sources` and are in no package.
    """
    modules = {name.split(".")[0] for source in sources for name in imported_modules(source)}
    return {
        package
        for module in modules - sys.stdlib_module_names - set(ours)
        for package in _packages().get(module, [module])
    }


def pinned(requirements: Iterable[str]) -> list[str]:
    """Return "name==version" for `requirements` and everything they need here, sorted by name.

    A requirement that an installed package declares but that is itself not installed is left out:
    the environment evidently works without it (CUDA libraries beside a CPU build of torch).

    Raises:
        PackageNotFoundError: if one of `requirements` itself is not installed.
    """
    pending = [Requirement(requirement) for requirement in requirements]
    asked = {canonicalize_name(requirement.name) for requirement in pending}
    pins: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            if name in asked:
                raise
            continue
        # An index other than PyPI marks its builds ("2.13.0+cpu"); the image chooses the index.
        pins[name] = Version(installed.version).public
        pending += _needs(installed.requires or (), requirement.extras)
    return [f"{name}=={version}" for name, version in sorted(pins.items())]


@cache
def imported_modules(source: bytes) -> tuple[str, ...]:
    """Return the dotted names of what a module imports, at its top and inside functions."""
    return tuple(_imports(source))


def _imports(source: bytes) -> Iterator[str]:
    pending: list[ast.AST] = [ast.parse(source)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            pending += node.orelse
        else:
            pending += ast.iter_child_nodes(node)


@cache
def _packages() -> Mapping[str, list[str]]:
    return packages_distributions()


def _needs(declared: Iterable[str], extras: Iterable[str]) -> Iterator[Requirement]:
    """Yield what is declared for this platform and Python, with or without one of `extras`."""
    for line in declared:
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement
