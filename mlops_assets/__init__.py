"""An open MLOps platform: a lakehouse modeled as Dagster software-defined assets."""
