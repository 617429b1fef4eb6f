"""`mlops serve`: the promoted model of a product on loopback, from the local environment.

The server takes over a new champion of the same contract by itself. One of another contract is in
another Bento, which is started beside the old one here before traffic moves.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated

import typer
from rich.markup import escape

from mlops_assets.cli.console import err, out
from mlops_assets.local import lake_uri, online_store_uri, prepare, request_log_folder
from mlops_assets.ml.serving_contract import Contract
from mlops_assets.stores.bento_process import BentoError
from mlops_assets.stores.bento_rollout import HOST, Rollout
from mlops_assets.stores.bento_store import BentoStore
from mlops_assets.stores.lakehouse import Lakehouse
from mlops_assets.stores.model_registry import CHAMPION, ModelRegistry, VersionNotFound
from mlops_assets.stores.serving_truth import MayNotServe, serving_version

LOOK_SECONDS = 1.0
RETRY_SECONDS = 15.0
"""After which what serves is asked again, and a Bento that could not be rolled out is tried."""


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(serve)


def serve(
    product: Annotated[str, typer.Argument(help="The product whose champion answers.")],
    port: Annotated[int, typer.Option(help="Port of loopback; 0 for a free one.")] = 3333,
    beside: Annotated[
        str, typer.Option(help="What runs beside: predecessor=shadow, or 3=share:0.1.")
    ] = "",
) -> None:
    """Serve the promoted model until Ctrl-C, and follow each promotion.

    mlops serve flight_delays
    mlops serve flight_delays --port 3334 --beside predecessor=shadow
    """
    folder = prepare()
    tracking = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    lake, models = Lakehouse(lake_uri()), ModelRegistry(tracking)
    environment = {
        "MLOPS_LAKE_URI": lake_uri(),
        "MLFLOW_TRACKING_URI": tracking,
        "MLOPS_ONLINE_STORE": online_store_uri(),
        "MLOPS_REQUEST_LOG": str(request_log_folder()),
        **({"MLOPS_BESIDE": beside} if beside else {}),
    }
    bentos = BentoStore(folder / "bentos")
    with _told(), Rollout(bentos, port, environment, folder / "logs") as rollout:
        tag, _ = _wanted(lake, models, product)
        out.print(f"Starting {tag} …")
        rollout.roll_out(tag)
        _introduce(rollout.port, bentos.contract(tag))
        _follow(rollout, lake, models, product)


def _follow(rollout: Rollout, lake: Lakehouse, models: ModelRegistry, product: str) -> None:
    """Roll out each champion that needs another Bento, for ever."""
    settled, again = "", 0.0
    while True:
        time.sleep(LOOK_SECONDS)
        if news := rollout.look():
            err.print(escape(news), soft_wrap=True)
        # To ask what is named is cheap; whether it may serve is asked once for each name. Where
        # that cannot be asked the server's log says why, and what serves goes on.
        with suppress(Exception):
            named = models.named(product, CHAMPION)
            state = repr(named and (named.version, named.tags.get("bento")))
            if state == settled and time.monotonic() < again:
                continue
            settled, again = state, time.monotonic() + RETRY_SECONDS
            tag, contract = _wanted(lake, models, product)
            if rollout.worker is not None and contract != rollout.worker.contract:
                _roll_out(rollout, tag)


def _roll_out(rollout: Rollout, tag: str) -> None:
    try:
        rollout.roll_out(tag)
        out.print(f"{tag} answers now")
    except (BentoError, LookupError) as error:
        err.print(f"[red]{escape(str(error))}[/]", soft_wrap=True)


def _wanted(lake: Lakehouse, models: ModelRegistry, product: str) -> tuple[str, str]:
    """The Bento of what may serve, and the hash of its contract.

    Raises:
        MayNotServe: nothing may, or it has no Bento.
    """
    version = serving_version(lake, models, product)
    if "bento" not in version.tags or "contract" not in version.tags:
        raise MayNotServe(
            f"{version.label} has no Bento that answers requests; `mlops apply` packages it anew"
        )
    return version.tags["bento"], version.tags["contract"]


def _introduce(port: int, contract: Contract) -> None:
    url = f"http://{HOST}:{port}"
    example = json.dumps({f.name: f.example for f in contract.request if f.required})
    out.print(f"{contract.product} answers at {url} ({url}/ describes it). Try")
    command = f"curl {url}/predict -H 'Content-Type: application/json' -d {shlex.quote(example)}"
    out.print(f"  {command}", soft_wrap=True)
    out.print("Ctrl-C ends it.")


@contextmanager
def _told() -> Iterator[None]:
    """Say what is wrong where that is known, and end with status 1; a signal ends with 0."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    except (MayNotServe, VersionNotFound, BentoError, OSError, LookupError) as error:
        err.print(f"[red]{escape(str(error))}[/]", soft_wrap=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        out.print("Stopped.")
