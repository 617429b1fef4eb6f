"""The installed versions of packages and of all that they need, as pins for an image.

An image made from them holds what a model was tried with, not what an index offers on the day.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version


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


def _needs(declared: Iterable[str], extras: Iterable[str]) -> Iterator[Requirement]:
    """Yield what is declared for this platform and Python, with or without one of `extras`."""
    for line in declared:
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement
