"""The science: pure functions and classes; no Dagster, MLflow, BentoML or I/O."""
