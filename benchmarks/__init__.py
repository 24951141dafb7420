"""Benchmarks: `genie-gym bench NAME`, or `python -m benchmarks.NAME [--quick] [--json FILE]`.

Benchmarks you run on your own world or machine are here; one-off experiments are in `studies`.
No other package imports this one.
"""
