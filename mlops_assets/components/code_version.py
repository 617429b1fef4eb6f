"""Code versions that follow the code: a hash of what a result rests on.

Followed are the function, what it calls or reads of ours, and constants; not followed are
comments, docstrings, formatting, and code that is not ours.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from datetime import timedelta
from types import CodeType, ModuleType
from typing import Any

_OURS = "mlops_assets"


def code_version(*roots: Any) -> str:
    """Version of the functions, classes and plain values given, 16 hex digits."""
    digest = hashlib.sha256()
    for part in sorted(set(_parts(roots))):
        digest.update(f"{len(part)}:".encode() + part.encode())
    return digest.hexdigest()[:16]


def _parts(roots: tuple[Any, ...]) -> Iterator[str]:
    ours = {_package(root) for root in roots} | {_OURS}
    seen: set[int] = set()
    pending = list(roots)
    while pending:
        thing = pending.pop()
        if id(thing) in seen or isinstance(thing, ModuleType):
            continue
        seen.add(id(thing))
        thing = thing.__func__ if inspect.ismethod(thing) else thing
        if inspect.isfunction(thing) or inspect.isclass(thing):
            if _package(thing) in ours and (source := _normalized(thing)):
                yield f"{thing.__module__}.{thing.__qualname__} {source}"
                pending.extend(_references(thing))
        elif not callable(thing):
            yield repr(thing)


def _package(thing: Any) -> str:
    return (getattr(thing, "__module__", None) or "").split(".")[0]


def _normalized(thing: Callable[..., Any] | type) -> str | None:
    try:
        source = inspect.getsource(thing)
    except OSError:  # what a decorator generates, a dataclass's __init__ say, follows its class
        return None
    tree = ast.parse(textwrap.dedent(source))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            body = node.body
            if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
                node.body = body[1:] or [ast.Pass()]
    return ast.dump(tree)


def _references(thing: Callable[..., Any] | type) -> Iterator[Any]:
    functions = (
        [thing]
        if inspect.isfunction(thing)
        else [m for m in vars(thing).values() if inspect.isfunction(m)]
    )
    for function in functions:
        yield from _named(function.__code__, function.__globals__)
        for cell in function.__closure__ or ():
            # A cell that is still empty belongs to a function that refers to itself.
            try:
                yield cell.cell_contents
            except ValueError:
                continue


def _named(code: CodeType, scope: dict[str, Any]) -> Iterator[Any]:
    names = set(code.co_names)
    for name in names & scope.keys():
        value = scope[name]
        if isinstance(value, ModuleType) and value.__name__.startswith(_OURS):
            yield from (getattr(value, n) for n in sorted(names) if hasattr(value, n))
        elif inspect.isfunction(value) or inspect.isclass(value) or _is_plain(value):
            yield value
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _named(constant, scope)


def _is_plain(value: Any) -> bool:
    plain = str | int | float | bool | tuple | dict | list | timedelta
    return isinstance(value, plain) or (is_dataclass(value) and not isinstance(value, type))
