"""Benchmarks: run `genie-gym bench NAME`, or `python -m benchmarks.NAME [--quick] [--json FILE]`.

This folder contains the benchmarks that you can run on your own world model or machine. One-off
experiments are in `benchmarks.studies`. No other package imports this one.
"""
