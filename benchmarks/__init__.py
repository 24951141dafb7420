"""Measurements: `genie-gym bench NAME`, or `python -m benchmarks.NAME [--quick] [--json FILE]`.

What one runs on a world or a machine of one's own lies here, what was asked once in `studies`.
Nothing imports this package.
"""
