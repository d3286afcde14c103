"""Benchmarks: each prints its figures beside a baseline that ran in the same rounds.

A file for each, with `run(...) -> list[Row]`; `python -m benchmarks [NAME ...]` runs them.
"""
