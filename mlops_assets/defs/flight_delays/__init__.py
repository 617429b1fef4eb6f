"""The product flight_delays: its declaration (defs.yaml) and its problem (problem.py)."""
