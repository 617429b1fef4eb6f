"""WHERE data and models live; no Dagster, so that a Bento, a notebook and an asset share it."""
