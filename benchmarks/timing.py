"""How benchmarks take the time."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence

import torch

from world_models.compiler import check_compiler

__all__ = ["can_compile", "per_second", "pin_to_one_core", "ratio"]


def pin_to_one_core() -> None:
    """Make every figure from here on one per core."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def per_second(read: Callable[[], object], seconds: float) -> float:
    """How often `read` runs in a second: the median of five stretches, after a warm-up."""
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
    """Whether there is something to compile with; says so where there is not."""
    try:
        check_compiler(device)
    except RuntimeError as missing:
        print(f"only plain steps: {missing}")
        return False
    return True


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """How much longer theirs takes than ours: the median over rounds of the ratio in a round."""
    return statistics.median(a / b for a, b in zip(theirs, ours, strict=True))
