"""Code versions that follow the code: a hash of what a result rests on.

Followed are the function, what it calls or reads of ours, wrappers around it, defaults, closures
and constants. Not followed are comments, docstrings, annotations, a function's own declaration as
an asset, imports inside functions, and code that is not ours.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from datetime import date, time, timedelta
from functools import partial
from pathlib import PurePath
from types import ModuleType
from typing import Any

import polars as pl

_OURS = "mlops_assets"
_PLAIN = (
    str, bytes, int, float, type(None), date, time, timedelta, PurePath, re.Pattern, pl.DataType,
)  # fmt: skip

Named = tuple[str, Any]
"""A value, and the name by which it was found."""


def code_version(*roots: Any) -> str:
    """Version of the functions, classes and plain values given, 16 hex digits."""
    digest = hashlib.sha256()
    for part in sorted(set(_parts(roots))):
        digest.update(f"{len(part)}:".encode() + part.encode())
    return digest.hexdigest()[:16]


def _parts(roots: tuple[Any, ...]) -> Iterator[str]:
    ours = {_package(root) for root in map(_unwrapped, roots) if _is_code(root)} | {_OURS}
    # The values are kept beside their ids, since an id is used again once its value is gone.
    seen: dict[int, Any] = {}
    pending: list[Named] = [(str(position), root) for position, root in enumerate(roots)]
    while pending:
        name, value = pending.pop()
        value = _unwrapped(value)
        if not _is_code(value):
            inner: list[Any] = []
            yield f"{name} = {_text(value, inner)}"
            pending.extend(("", code) for code in inner)
        elif id(value) not in seen and _package(value) in ours:
            seen[id(value)] = value
            tree = _tree(value)
            yield f"{value.__module__}.{value.__qualname__} {ast.dump(tree)}"
            pending.extend(_read(tree, _scope(value), ours))
            pending.extend(_carried(value))


def _is_code(value: Any) -> bool:
    return inspect.isfunction(value) or inspect.isclass(value)


def _package(code: Any) -> str:
    return (code.__module__ or "").split(".")[0]


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
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            node.body = [n for n in node.body if not _is_text(n)] or [ast.Pass()]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(ast.unparse(node.annotation))
    if isinstance(top := tree.body[0], ast.FunctionDef):
        top.decorator_list = []
    return tree


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _read(tree: ast.Module, scope: dict[str, Any], ours: set[str]) -> Iterator[Named]:
    """What the code names in its module, or in another module of ours."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            value = _resolved(node, scope, ours)
            if value is not scope and not isinstance(value, ModuleType):
                yield ast.unparse(node), value


def _resolved(node: ast.expr, scope: dict[str, Any], ours: set[str]) -> Any:
    """The value of a dotted name; the scope itself where there is none."""
    if isinstance(node, ast.Name):
        return scope.get(node.id, scope)
    if isinstance(node, ast.Attribute):
        module = _resolved(node.value, scope, ours)
        if isinstance(module, ModuleType) and module.__name__.split(".")[0] in ours:
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
