"""Measure how fast the dynamics model trains, in complete training steps as `fit` runs them.

It compares three objectives at the same model size, each compiled (`--compile`) and plain. The
paper's objective and the one-pass objective process each frame once; the two-stream objective
processes each frame twice. The benchmark also compares the precisions. The variants alternate,
because the speed of a shared machine varies over time. The table also shows each speed as a
fraction of the peak speed of matrix multiplication, which is measured in the same run and
precision.

Without a compiler, it prints a message and measures only plain (uncompiled) steps.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.report import Measured, named, run_benchmark
from benchmarks.timing import can_compile, can_use_bfloat16
from world_models.model.dynamics import Dynamics, DynamicsConfig
from world_models.model.losses import DynamicsLossConfig
from world_models.parts import build_tokenizer
from world_models.precision import choose_dtype
from world_models.presets import small
from world_models.training.config import FitConfig
from world_models.training.fit import fit, launch

Precision = Literal["auto", "fp32", "bf16"]
BATCH, FRAMES, NUM_ACTIONS = 4, 16, 5
OBJECTIVES = {
    "paper": "train",
    "one_pass": "one_pass",
    "two_stream": "two_stream",
}  # objective -> its name in the results
LOSS = DynamicsLossConfig(changed_weight=4.0, context_noise=0.1)
WARM_UP, ROUNDS = 3, 3
TARGET = 150.0  # frames/s with the paper's objective on 2 cores
# Frames/s of other models at this size and batch on 2 cores of an AMD EPYC.
PEERS = {"Jafar": 70.0, "tinyworlds, fp32": 55.0, "tinyworlds, bf16": 135.0}


class Stopwatch:
    """A loader that yields one batch forever and records the time of each request."""

    def __init__(self, batch: dict[str, Tensor]):
        self.batch, self.times = batch, [0.0]

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        while True:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.times.append(time.perf_counter())
            yield self.batch

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        raise ValueError("a benchmark cannot be resumed; start it again")

    def seconds(self) -> list[float]:
        """Return the seconds of each step after warm-up."""
        return [b - a for a, b in pairwise(self.times[1 + WARM_UP :])]


def make_config(objective: str) -> DynamicsConfig:
    return replace(small(NUM_ACTIONS).dynamics, objective=objective)  # type: ignore[arg-type]


def make_model(config: DynamicsConfig) -> Dynamics:
    space = build_tokenizer(small(NUM_ACTIONS).tokenizer).space
    torch.manual_seed(0)
    return Dynamics(config, space, torch.randn(space.num_codes, space.code_dim))


def make_batch(model: Dynamics) -> dict[str, Tensor]:
    space, shape = model.space, (BATCH, FRAMES - 1)
    return {
        "tokens": torch.randint(space.num_codes, (BATCH, FRAMES, space.num_tokens)),
        "actions": torch.randint(model.config.num_actions, shape),
        "rewards": torch.zeros(shape),
        "terminated": torch.zeros(shape, dtype=torch.bool),
    }


def train_steps(
    config: DynamicsConfig, steps: int, compiled: bool, precision: Precision = "auto"
) -> list[float]:
    """Run training steps; return the seconds of each step after warm-up."""
    model = make_model(config)
    loader = Stopwatch(make_batch(model))
    steps = WARM_UP + steps + 1
    settings = FitConfig(steps=steps, batch_size=BATCH, save_every=10**6, precision=precision)
    loss = partial(Dynamics.loss, config=LOSS)
    with tempfile.TemporaryDirectory() as out:
        fit(model, loader, settings, Path(out), loss=loss, compile=compiled)
    return loader.seconds()


def count_flops(objective: str) -> float:
    """Count the FLOPs of a step's matrix multiplications, forward and backward.

    Convolutions are ignored, because torch's counter counts the gradient of a depth-wise
    convolution like the gradient of a full convolution.
    """
    model = make_model(make_config(objective))
    device = launch().device
    batch = {name: value.to(device) for name, value in make_batch(model).items()}
    with FlopCounterMode(display=False) as counter:
        model.to(device).loss(batch, LOSS)[0].backward()
    counts = counter.get_flop_counts()["Global"]
    return sum(n for op, n in counts.items() if "convolution" not in str(op))


def matmul_peak(repeats: int, dtype: torch.dtype) -> float:
    """Return the highest measured FLOPs per second of a large matrix multiplication."""
    device = launch().device
    size = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    best = float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        product = a @ b
        float(product[0, 0])  # waits for the device
        best = min(best, time.perf_counter() - begin)
    return 2 * size**3 / best


def measure(quick: bool) -> Measured:
    used = choose_dtype("auto", launch().device)
    types: dict[Precision, torch.dtype] = {"fp32": torch.float32}
    if can_use_bfloat16(launch().device):
        types["bf16"] = torch.bfloat16
    peaks = {name: matmul_peak(5 if quick else 20, dtype) for name, dtype in types.items()}
    figures = {f"{name}_peak_gflops": peak / 1e9 for name, peak in peaks.items()}
    peak = peaks["bf16" if used == torch.bfloat16 else "fp32"]
    rows: list[list[object]] = [["", "frames/s", "s/step", f"share of the matmul peak, {used}"]]
    steps, rounds = (6, 1) if quick else (15, ROUNDS)
    modes = {"plain_": False, "": True} if can_compile(launch().device) else {"plain_": False}
    variants = [(objective, mode) for mode in modes for objective in OBJECTIVES]
    times: dict[tuple[str, str], list[float]] = {variant: [] for variant in variants}
    for _ in range(rounds):
        for objective, mode in variants:
            config = make_config(objective)
            times[objective, mode] += train_steps(config, steps, compiled=modes[mode])
    for objective, mode in variants:
        seconds, flops = statistics.median(times[objective, mode]), count_flops(objective)
        speed, share = BATCH * FRAMES / seconds, flops / seconds / peak
        name = mode + OBJECTIVES[objective]
        figures |= {f"{name}_frames_per_s": speed, f"{name}_peak_share": share}
        how = "plain" if mode else "compiled"
        rows.append([f"{objective} objective, {how}", speed, seconds, share])
    if "" not in modes:
        figures |= {name.removeprefix("plain_"): value for name, value in figures.items()}
    ratio = figures["two_stream_frames_per_s"] / figures["train_frames_per_s"]
    speedup = figures["train_frames_per_s"] / figures["plain_train_frames_per_s"]
    figures |= {"two_stream_ratio": ratio, "compiled_speedup": speedup}
    precisions: dict[Precision, list[float]] = {name: [] for name in ("auto", *types)}
    for _ in range(rounds):
        for precision, taken in precisions.items():
            taken += train_steps(make_config("one_pass"), steps, False, precision)
    auto, *explicit = (statistics.median(taken) for taken in precisions.values())
    figures["auto_vs_best_train"] = min(explicit) / auto
    for precision, seconds in zip(precisions, (auto, *explicit), strict=True):
        speed = BATCH * FRAMES / seconds
        rows.append([f"one_pass objective, plain, {precision}", speed, seconds, ""])
    rows.append(["two_stream / paper", ratio, "", ""])
    rows.append(["paper, compiled / plain", speedup, "", ""])
    rows.append(["target of the paper objective on 2 cores", TARGET, "", ""])
    rows += [[f"peer, other machine: {name}", speed, "", ""] for name, speed in PEERS.items()]
    return figures, named(rows)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return run_benchmark("training_speed", lambda given: measure(given.quick), argv, about=__doc__)


if __name__ == "__main__":
    main()
