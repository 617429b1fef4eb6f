"""Automation: the daemon evaluates the conditions that the assets declare.

What an asset's condition is stands with the asset (components/automation.py); here is only that
they are evaluated, how often, and that it is on wherever a daemon runs.
"""

import dagster as dg

INTERVAL_SECONDS = 5
"""Least seconds between two looks at the graph; one takes 0.2 to 0.4 s."""

automation = dg.AutomationConditionSensorDefinition(
    "automation",
    target=dg.AssetSelection.all(),
    description=(
        "Computes what is missing or whose inputs or code changed. Stop it to hold everything"
        " where it is; days and decisions can still be launched by hand."
    ),
    default_status=dg.DefaultSensorStatus.RUNNING,
    # The conditions are the platform's own classes, which only its code server can evaluate.
    use_user_code_server=True,
    minimum_interval_seconds=INTERVAL_SECONDS,
    run_tags={"mlops/command": "automation"},
)
