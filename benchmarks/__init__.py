"""Side by side with what a user would pick instead: `python -m benchmarks`, `--help` for more.

A module is one comparison. It has `CASES(quick)`, what is compared at which sizes, and a function a
contender, which is called in a process of its own. The data is the real year of flights, repeated
with other keys; data.py makes it.
"""
