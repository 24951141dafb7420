"""Timing helpers for the benchmarks."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence

import torch

from world_models.compiler import check_compiler
from world_models.precision import bfloat16_speedup

__all__ = ["can_compile", "can_use_bfloat16", "per_second", "pin_to_one_core", "ratio"]

MIN_BFLOAT16_SPEEDUP = 0.2


def pin_to_one_core() -> None:
    """Pin this process to one core, so that all later measurements are per core."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def per_second(read: Callable[[], object], seconds: float) -> float:
    """Return how many times `read` runs per second: the median of five intervals after warm-up."""
    read()
    rates = []
    for _ in range(5):
        count, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds / 5:
            read()
            count += 1
        rates.append(count / elapsed)
    return statistics.median(rates)


def can_compile(device: torch.device) -> bool:
    """Return whether models can be compiled on this machine; print the reason if they cannot."""
    try:
        check_compiler(device)
    except RuntimeError as missing:
        print(f"measuring only uncompiled steps: {missing}")
        return False
    return True


def can_use_bfloat16(device: torch.device) -> bool:
    """Return whether bfloat16 is fast enough to be measured; print a message if it is not.

    On a CPU without bfloat16 units, bfloat16 can be a hundred times as slow as float32.
    """
    speedup = bfloat16_speedup(device)
    if speedup < MIN_BFLOAT16_SPEEDUP:
        print(f"not measuring bfloat16: it is {1 / speedup:.0f} times as slow as float32")
        return False
    return True


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """Return the median over rounds of `theirs` / `ours`; both hold the seconds of each round."""
    return statistics.median(a / b for a, b in zip(theirs, ours, strict=True))
