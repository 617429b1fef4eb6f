"""The loop in process: the sensors that close it, evaluated until none asks for anything.

The daemon evaluates the same sensors. They follow from the state alone, so a switch between the two
costs nothing. Here one request runs at a time, and everything settles after it.
"""

from __future__ import annotations

import dagster as dg

from mlops_assets.components.engine import Done, Engine, Report
from mlops_assets.components.ml_product.sensors import LOOP

MAX_ROUNDS = 50


def follow(engine: Engine, report: Report | None = None) -> Report:
    """Run what the loop's sensors ask for, and let everything follow, until they ask no more.

    What failed is not asked for again by the same call.

    Raises:
        RuntimeError: when it does not come to rest within MAX_ROUNDS.
    """
    report = report or Report()
    tried: set[tuple[str | None, str]] = set()
    for _ in range(MAX_ROUNDS):
        request = next((r for r in _asked(engine, report) if _about(r) not in tried), None)
        if request is None:
            return report
        tried.add(_about(request))
        assert request.job_name is not None
        report.runs.append(engine.run_job(request.job_name, request.run_config, request.tags))
        engine.settle(report)
    raise RuntimeError(f"the loop has not come to rest in {MAX_ROUNDS} rounds")


def loop_sensors(definitions: dg.Definitions) -> list[dg.SensorDefinition]:
    """The sensors that close the loop, by name."""
    found = [s for s in definitions.sensors or [] if LOOP in (s.tags or {})]
    return sorted((s for s in found if isinstance(s, dg.SensorDefinition)), key=lambda s: s.name)


def _asked(engine: Engine, report: Report) -> list[dg.RunRequest]:
    """What the sensors ask for now; one that cannot look is told of, and the others go on."""
    asked: list[dg.RunRequest] = []
    for sensor in loop_sensors(engine.definitions):
        try:
            asked += evaluate(engine, sensor).run_requests or []
        except Exception as error:
            cause = error.__cause__ or error
            told = Done((sensor.name,), (), 0.0, f"{type(cause).__name__}: {cause}")
            if told not in report.runs:
                report.runs.append(told)
    return asked


def evaluate(engine: Engine, sensor: dg.SensorDefinition) -> dg.SensorExecutionData:
    """One look of a sensor, as the daemon's, without a cursor."""
    bound = engine.definitions.resources or {}
    with dg.build_sensor_context(
        instance=engine.instance,
        definitions=engine.definitions,
        sensor_name=sensor.name,
        resources={name: bound[name] for name in sensor.required_resource_keys},
    ) as context:
        return sensor.evaluate_tick(context)


def _about(request: dg.RunRequest) -> tuple[str | None, str]:
    return request.job_name, (request.run_key or "").partition("#")[0]
