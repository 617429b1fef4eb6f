"""What a step read is written on what it made, and on what it failed to make.

`recorded` goes around the function of every asset of the platform. Inputs are looked up before the
step reads them: one that changes meanwhile is then found to differ, and the step runs again.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Any

import dagster as dg
from dagster._core.events import DagsterEvent
from dagster._core.execution.plan.outputs import StepOutputData, StepOutputHandle

from mlops_assets.components.provenance import (
    INPUTS,
    TRIED,
    Contents,
    Partition,
    contents_now,
    signature,
)

Compute = Callable[..., Any]


def recorded(compute: Compute) -> Compute:
    """The same step, whose materializations say what they were made of."""

    @wraps(compute)
    def step(context: dg.AssetExecutionContext, *args: Any, **kwargs: Any) -> Iterator[Any]:
        spec = context.assets_def.specs_by_key[context.asset_key]
        asked: list[Partition] = [None]
        if context.assets_def.partitions_def is not None:
            asked = list(context.partition_keys)
        inputs = contents_now(context.instance, spec, asked)
        left = dict.fromkeys(asked)
        try:
            made = compute(context, *args, **kwargs)
            for event in made if inspect.isgenerator(made) else [made]:
                if isinstance(event, dg.MaterializeResult):
                    left.pop(asked[0], None)
                    event = event._replace(metadata=_with(event.metadata, inputs[asked[0]]))
                elif isinstance(event, dg.AssetMaterialization):
                    left.pop(event.partition, None)
                    event = event._replace(metadata=_with(event.metadata, inputs[event.partition]))
                yield event
            if len(asked) > 1:
                yield _there(context)
        except Exception as error:
            for partition in left:
                context.log_event(
                    dg.AssetObservation(
                        context.asset_key,
                        partition=partition,
                        description=f"Not made: {error}",
                        tags={TRIED: signature(spec, inputs[partition])},
                    )
                )
            raise

    return step


def _there(context: dg.AssetExecutionContext) -> Any:
    """The event after which what is downstream in the same run goes on.

    Dagster raises it with the output of a step, which a run of many days does not have: each day is
    an event of its own, with its own data version.
    """
    step = context.get_step_execution_context()
    output = context.assets_def.get_output_name_for_asset_key(context.asset_key)
    handle = StepOutputHandle(step.step.key, output)
    return DagsterEvent.step_output_event(step, StepOutputData(handle))


def _with(metadata: Mapping[str, Any] | None, inputs: Contents) -> dict[str, Any]:
    return {**(metadata or {}), INPUTS: dg.MetadataValue.json(inputs)}
