"""The product departure_demand: its declaration (defs.yaml) and its problem (problem.py)."""
