"""What the environment tells a server: where its stores are, who may ask, on which device it runs.

Read when the server starts, never when the Bento is built. A value that cannot be used ends the
start with a message that names the variable and what would be good.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Device = Literal["cpu", "cuda", "auto"]

# One worker answers on one core; more threads would only contend. Polars keeps its own count.
VARIABLES = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
    "BENTOML_DO_NOT_TRACK": "True",
}
"""What a server's own environment has before anything is imported."""


class SettingError(ValueError):
    """A variable of the environment is missing or cannot be used."""


@dataclass(frozen=True)
class Beside:
    """A version that runs beside the champion.

    Attributes:
        version: its number, or "predecessor".
        share: part of the keys that it answers, 0 for a shadow that never answers.
    """

    version: str
    share: float

    @classmethod
    def parse(cls, text: str) -> Beside:
        """Read "predecessor=shadow" or "3=share:0.1"."""
        version, _, role = text.strip().partition("=")
        kind, _, number = role.partition(":")
        try:
            share = 0.0 if role == "shadow" else float(number) if kind == "share" else -1.0
        except ValueError:
            share = -1.0
        known = version == "predecessor" or version.isdecimal()
        if not known or not 0 <= share < 1 or (kind == "share" and not share):
            raise SettingError(
                f"MLOPS_BESIDE has {text!r}; write predecessor=shadow, or 3=share:0.1 for a tenth"
                " of the keys; several with a comma in between"
            )
        return cls(version, share)


@dataclass(frozen=True)
class Settings:
    """One server's settings.

    Attributes:
        lake_uri: the lake that says what was promoted; None for a trial.
        tracking_uri: the registry to follow; None serves the packaged version only.
        online_store: where features are looked up.
        request_log: folder of the log, and of the copy of a remote online store.
        tokens: who may ask; empty lets everybody.
        device: overrules the contract's.
        beside: what else runs.
        trial: the packaged version serves although nobody promoted it, to be judged.
        most_at_once: requests that may wait for their answer; one more is refused with 429.
        body_bytes: largest body.
    """

    lake_uri: str | None
    tracking_uri: str | None
    online_store: str
    request_log: Path
    tokens: tuple[str, ...] = ()
    device: Device | None = None
    beside: tuple[Beside, ...] = ()
    trial: bool = False
    most_at_once: int = 512
    body_bytes: int = 1_000_000

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """The settings of this process.

        Raises:
            SettingError: naming the variable and what would be good.
        """
        get = environment.get
        home = get("MLOPS_HOME")
        trial = get("MLOPS_SERVE", "") == "trial"
        lake = get("MLOPS_LAKE_URI") or (f"{Path(home).absolute()}/lake" if home else None)
        store = get("MLOPS_ONLINE_STORE") or (
            f"lmdb://{Path(home).absolute()}/online" if home else ""
        )
        log = get("MLOPS_REQUEST_LOG") or (f"{Path(home).absolute()}/requests" if home else "")
        for name, value in {
            "MLOPS_LAKE_URI": lake or trial,
            "MLOPS_ONLINE_STORE": store,
            "MLOPS_REQUEST_LOG": log,
        }.items():
            if not value:
                raise SettingError(f"{name} is not set, nor is MLOPS_HOME; `mlops serve` sets both")
        beside = tuple(Beside.parse(text) for text in get("MLOPS_BESIDE", "").split(",") if text)
        if sum(each.share for each in beside) >= 1:
            raise SettingError(
                f"MLOPS_BESIDE={get('MLOPS_BESIDE')!r}: shares of 1 or more leave none"
            )
        return cls(
            lake_uri=lake,
            tracking_uri=None if trial else get("MLFLOW_TRACKING_URI") or None,
            online_store=store,
            request_log=Path(log),
            tokens=tuple(t for t in get("MLOPS_API_TOKENS", "").replace(",", " ").split() if t),
            device=_device(get("MLOPS_DEVICE")),
            beside=() if trial else beside,
            trial=trial,
            most_at_once=_positive(environment, "MLOPS_MAX_CONCURRENCY", 512),
            body_bytes=_positive(environment, "MLOPS_MAX_BODY_BYTES", 1_000_000),
        )


def _device(asked: str | None) -> Device | None:
    if asked in (None, ""):
        return None
    if asked not in ("cpu", "cuda", "auto"):
        raise SettingError(f"MLOPS_DEVICE is {asked!r}; use cpu, cuda or auto")
    return asked  # type: ignore[return-value]


def _positive(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isdecimal() or not int(text):
        raise SettingError(f"{name} is {text!r}; use a whole number above 0, say {default}")
    return int(text)
