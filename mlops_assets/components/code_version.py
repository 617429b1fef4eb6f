"""Code versions that follow the code: what a result rests on, as text that changes with it.

A version is "code/settings/libraries", say `9f2c01d4e8aa/5b1e0c77a3f9/polars==2.1.0`. Followed are
the function, what it calls or reads of ours, wrappers around it, defaults, closures, constants, the
modules of ours that it imports inside, and the versions of the libraries that any of this names.
Not followed are comments, docstrings, annotations, a function's own declaration as an asset, the
folder that the code lies in, and Dagster, which no content depends on.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, time, timedelta
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any

import polars as pl

_OURS = "mlops_assets"
_NO_CONTENT = sys.stdlib_module_names | {"dagster", "dagster_shared", "pytest"}
_PLACES = {"__file__", "__path__", "__spec__"}
"""Where code lies on a disk is not what it does: a copy of it has the same version."""
_DIGITS = 12
_PLAIN = (
    str, bytes, int, float, type(None), date, time, timedelta, PurePath, re.Pattern, pl.DataType,
)  # fmt: skip


class Registry(dict[Any, Any]):
    """What is declared, by name: filled as modules load, so that it is not part of any version.

    What a result rests on in it is given to `code_version` by itself.
    """


Named = tuple[str, Any]
"""A value, and the name by which it was found."""


def code_version(*roots: Any, settings: Any = None) -> str:
    """Version of the functions, classes and plain values given, and of declared settings."""
    libraries: set[str] = set()
    code = _hash(sorted(set(_parts(roots, libraries))))
    declared = "-" if settings is None else _hash([_text(settings, [])])
    return f"{code}/{declared}/{','.join(sorted(filter(None, map(_pinned, libraries))))}"


def difference(before: str, now: str) -> list[str]:
    """In what two versions differ: "code", "configuration", "polars 2.1.0 → 2.2.0"."""
    parts = [version.split("/") for version in (before, now)]
    if before == now:
        return []
    if any(len(each) != 3 for each in parts):
        return ["code"]
    (code, settings, libraries), (code_now, settings_now, libraries_now) = parts
    then, there = (dict(_pairs(each)) for each in (libraries, libraries_now))
    changed = [n for n in sorted(then | there) if then.get(n) != there.get(n)]
    # Code that names another library is other code, which is said already.
    named = [f"{n} {then[n]} → {there[n]}" for n in changed if n in then and n in there]
    found = ["code"] * (code != code_now) + ["configuration"] * (settings != settings_now) + named
    return found or ["code"]


def _pairs(libraries: str) -> Iterator[tuple[str, str]]:
    for pin in filter(None, libraries.split(",")):
        name, _, number = pin.partition("==")
        yield name, number


def _hash(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:".encode() + part.encode())
    return digest.hexdigest()[:_DIGITS]


@cache
def _pinned(package: str) -> str:
    """An import package as "distribution==version"; empty where it is not installed as one."""
    try:
        name, number = package, version(package)
    except PackageNotFoundError:
        found = _distributions().get(package)
        if not found:
            return ""
        name, number = found[0], version(found[0])
    # A build tag such as +cpu is not another release.
    return f"{name}=={number.partition('+')[0]}"


@cache
def _distributions() -> Mapping[str, list[str]]:
    """Import package to the distributions that it is of: a look at all that is installed."""
    return packages_distributions()


def _parts(roots: tuple[Any, ...], libraries: set[str]) -> Iterator[str]:
    given = [value for root in roots for value in _given(root)]
    ours = {_package(root) for root in map(_unwrapped, given) if _is_code(root)} | {_OURS}
    # The values are kept beside their ids, since an id is used again once its value is gone.
    seen: dict[int, Any] = {}
    pending: list[Named] = [(str(position), root) for position, root in enumerate(roots)]
    while pending:
        name, value = pending.pop()
        value = _unwrapped(value)
        if isinstance(value, ModuleType):
            libraries |= {_root(value.__name__)} - ours - _NO_CONTENT
        elif not _is_code(value):
            inner: list[Any] = []
            yield f"{name} = {_text(value, inner)}"
            pending.extend(("", code) for code in inner)
        elif _package(value) not in ours:
            libraries |= {_package(value)} - _NO_CONTENT
        elif id(value) not in seen:
            seen[id(value)] = value
            syntax = _syntax(value)
            yield f"{value.__module__}.{value.__qualname__} {syntax.text}"
            pending.extend(_read(syntax, _scope(value), ours))
            pending.extend(_carried(value))
            for module in syntax.imports:
                if _root(module) in ours:
                    yield f"{module} {_module_text(module)}"
                else:
                    libraries |= {_root(module)} - _NO_CONTENT


@dataclass(frozen=True)
class _Syntax:
    """What stands in a function or class: all of it, the names in it, and what it imports."""

    text: str
    names: tuple[tuple[ast.expr, str], ...]
    imports: tuple[str, ...]


@cache
def _syntax(code: Any) -> _Syntax:
    # Kept, since most assets rest on the same functions. What the names mean may change.
    tree = _tree(code)
    names = [n for n in ast.walk(tree) if isinstance(n, ast.Name | ast.Attribute)]
    shown = tuple((node, ast.unparse(node)) for node in names)
    return _Syntax(ast.dump(tree), shown, tuple(_imported(tree)))


def _imported(tree: ast.Module) -> Iterator[str]:
    """Modules that are imported inside; heavy ones are, so that the code location loads fast."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


@cache
def _module_text(module: str) -> str:
    spec = find_spec(module)
    if spec is None or not spec.origin:
        return ""
    tree = _without_text(ast.parse(Path(spec.origin).read_text()))
    return ast.dump(tree)


def _root(module: str) -> str:
    return module.partition(".")[0]


def _is_code(value: Any) -> bool:
    return inspect.isfunction(value) or inspect.isclass(value)


def _given(root: Any) -> list[Any]:
    """The functions that a root stands for: those of a partial are as much its own."""
    if isinstance(root, partial):
        return [root.func, *root.args, *root.keywords.values()]
    return [root]


def _package(code: Any) -> str:
    return _root(code.__module__ or "")


def _scope(code: Any) -> dict[str, Any]:
    return vars(sys.modules[code.__module__]) if inspect.isclass(code) else code.__globals__


def _unwrapped(value: Any) -> Any:
    """The function beneath a method, a cache or another callable object that wraps it."""
    if inspect.ismethod(value):
        return value.__func__
    return value if inspect.isfunction(value) else getattr(value, "__wrapped__", value)


def _tree(code: Any) -> ast.Module:
    """The syntax of a function or class, without what no result rests on."""
    try:
        # The source of a function's code is its own, where that of a wrapper is what it wraps.
        source = inspect.getsource(code if inspect.isclass(code) else code.__code__)
        tree = ast.parse(textwrap.dedent(source))
    except (OSError, TypeError, SyntaxError):  # generated, or a lambda inside a longer statement
        return ast.parse(repr(b"" if inspect.isclass(code) else code.__code__.co_code))
    _without_text(tree)
    if isinstance(top := tree.body[0], ast.FunctionDef):
        top.decorator_list = []
    return tree


def _without_text(tree: ast.Module) -> ast.Module:
    """The same syntax, less docstrings and annotations."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            node.body = [n for n in node.body if not _is_text(n)] or [ast.Pass()]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(ast.unparse(node.annotation))
    return tree


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _read(syntax: _Syntax, scope: dict[str, Any], ours: set[str]) -> Iterator[Named]:
    """What the code names in its module, or in another module of ours."""
    for node, name in syntax.names:
        if name.rpartition(".")[2] in _PLACES:
            continue
        value = _resolved(node, scope, ours)
        if value is not scope and not _is_our_module(value, ours):
            yield name, value


def _is_our_module(value: Any, ours: set[str]) -> bool:
    return isinstance(value, ModuleType) and _root(value.__name__) in ours


def _resolved(node: ast.expr, scope: dict[str, Any], ours: set[str]) -> Any:
    """The value of a dotted name; the scope itself where there is none."""
    if isinstance(node, ast.Name):
        return scope.get(node.id, scope)
    if isinstance(node, ast.Attribute):
        module = _resolved(node.value, scope, ours)
        if isinstance(module, ModuleType) and _root(module.__name__) in ours:
            return getattr(module, node.attr, scope)
    return scope


def _carried(code: Any) -> Iterator[Named]:
    """What functions carry with them: defaults, and the values that they close over."""
    functions = vars(code).values() if inspect.isclass(code) else [code]
    for function in filter(inspect.isfunction, functions):
        yield f"{function.__qualname__} defaults", function.__defaults__
        yield f"{function.__qualname__} defaults by name", function.__kwdefaults__
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        for name, cell in cells:
            # A cell that is still empty belongs to a function that refers to itself.
            try:
                yield f"{function.__qualname__} {name}", cell.cell_contents
            except ValueError:
                continue


def _text(value: Any, inner: list[Any]) -> str:
    """A value as text that is the same in each process; functions and classes go to `inner`."""
    each: Callable[[Any], str] = partial(_text, inner=inner)
    value = _unwrapped(value)
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, pl.Expr):
        return str(value)
    if _is_code(value):
        inner.append(value)
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, Registry):
        return "what is declared"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{each(k)}: {each(v)}' for k, v in value.items())}}}"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(each, value)))}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(each, value))}]"
    if isinstance(value, partial):
        return f"partial({each([value.func, value.args, value.keywords])})"
    if is_dataclass(value):
        shown = {f.name: getattr(value, f.name) for f in fields(value)}
        return f"{each(type(value))}{each(shown)}"
    return type(value).__qualname__
