"""Measure the time per dreamed frame: streaming against recomputing the window.

Both methods run in the same process with the same weights, and both include decoding to pixels.
They compute in bfloat16 if the CPU is faster in it, otherwise in float32. They take 8 sampling
passes per frame at the size SMALL (the preset `small`) and 25 at the paper's size. The weights are
untrained, but every frame takes all passes, so the weights do not affect the time. Both methods are
compiled, except with --quick; compile time is not counted.

Streaming is also measured without compilation, with 8 passes and with the one-pass objective. The
cores then divide the batch among themselves, as in an env.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmarks.report import Measured, named, run_benchmark
from world_models.inference.compile import CompiledWorld, Compiler
from world_models.inference.parallel import (
    MIN_ROWS,
    step_in_parts,
    threads,
    threads_of_an_operation,
)
from world_models.inference.sampling import MaskedTokens, sample_tokens, unmask
from world_models.inference.world import WorldModel
from world_models.model.token_space import Clip, SamplingConfig
from world_models.precision import choose_dtype
from world_models.presets import WorldConfig, build, paper, small

Objective = Literal["two_stream", "one_pass"]
NUM_ACTIONS = 5
WINDOW = 16
SMALL_STEPS, PAPER_STEPS = 8, 25
PLAIN: dict[str, tuple[Objective, int]] = {  # name in the results: objective, passes
    "plain": ("two_stream", SMALL_STEPS),
    "one_pass": ("one_pass", 1),
}
# Seconds per frame of other models of size SMALL on 2 cores of an AMD EPYC: batch 1, batch 16.
PEERS = {"Jafar": (0.28, 0.40), "IRIS, KV cache": (0.23, 0.046), "DIAMOND": (0.10, 0.125)}
# Batch size, turns, and calls per turn.
QUICK, FULL = ((1, 1, 4),), ((1, 15, 8), (16, 7, 2))
PAPER_PEER = ("Jafar, paper size", 25.7)


def make_world(config: WorldConfig, steps: int, objective: Objective = "two_stream") -> WorldModel:
    """Make an untrained world model that takes `steps` passes per frame."""
    torch.manual_seed(0)
    dynamics = replace(config.dynamics, objective=objective)
    world = build(replace(config, dynamics=dynamics, sampling=SamplingConfig(steps=steps)))
    return world.eval().to(choose_dtype("auto", torch.device("cpu")))


def first_frames(world: WorldModel, batch: int) -> Tensor:
    size = world.tokenizer.frame_size
    return torch.randint(256, (batch, 1, size, size, 3), dtype=torch.uint8)


def streaming(world: WorldModel, batch: int, num_parts: int = 1) -> Callable[[], object]:
    """Return a function that streams the next frame, with the batch split in `num_parts` parts."""
    state = world.start(first_frames(world, batch), torch.zeros(batch, 0, dtype=torch.int64))
    action = torch.randint(NUM_ACTIONS, (batch,))

    def step() -> None:
        nonlocal state
        if num_parts == 1:
            state, _ = world.step(state, action)
        else:
            state, _ = step_in_parts(world.step, num_parts, state, action)

    return step


class Window(nn.Module):
    """The baseline: the same weights, but each pass recomputes the whole window."""

    def __init__(self, world: WorldModel):
        super().__init__()
        self.dynamics, self.tokenizer = world.dynamics, world.tokenizer
        self.sampling = world.sampling

    def logits(self, tokens: Tensor, past: Tensor, actions: Tensor) -> Tensor:
        """Predict the last frame, which is partly masked."""
        window = torch.cat((past, tokens[:, None]), 1)
        clip = Clip(window, actions)
        return self.dynamics.objective.joint_logits(self.dynamics, clip, num_ahead=1)[:, 0]

    def sampling_pass(
        self, canvas: MaskedTokens, schedule: Tensor, noise: Tensor, past: Tensor, actions: Tensor
    ) -> tuple[MaskedTokens, Tensor]:
        """Compute the logits, then unmask tokens."""
        logits = self.logits(canvas.tokens, past, actions)
        return unmask(canvas, logits, schedule, noise, self.sampling, self.dynamics.space)

    def outcome(self, window: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Predict reward and termination from the completed last frame."""
        states = self.dynamics.objective.outcome_states(self.dynamics, Clip(window, actions))
        return self.dynamics.outcome.predict(states[:, -1])

    def show(self, window: Tensor, first: Tensor) -> Tensor:
        """Decode the whole window."""
        return self.tokenizer.decode(window, first)


class Recomputer:
    """Generates frames with a `Window`, optionally compiled like a `CompiledWorld`."""

    def __init__(self, world: WorldModel, compile: bool):
        window = Window(world)
        self.world, self.compiled, self.logits = world, compile, window.logits
        run: Callable[[Callable[..., Any]], Callable[..., Any]] = _unchanged
        if compile:
            run = compiler = Compiler(window)
            window = compiler.part
        self.sampling_pass = run(window.sampling_pass)
        self.outcome, self.show = run(window.outcome), run(window.show)


def recomputing(rival: Recomputer, batch: int) -> Callable[[], object]:
    """Return a function that dreams the next frame by recomputing the window in each pass."""
    world, space = rival.world, rival.world.dynamics.space
    past = torch.randint(space.num_codes, (batch, WINDOW - 1, space.num_tokens))
    actions = torch.randint(NUM_ACTIONS, (batch, WINDOW - 1))
    seeds, first = torch.arange(batch), first_frames(world, batch)

    def predict(tokens: Tensor, rows: Tensor) -> Tensor:
        return rival.logits(tokens, past[rows], actions[rows])

    def fused(
        canvas: MaskedTokens, rows: Tensor, schedule: Tensor, noise: Tensor
    ) -> tuple[MaskedTokens, Tensor]:
        return rival.sampling_pass(canvas, schedule, noise, past[rows], actions[rows])

    @torch.no_grad()
    def step() -> None:
        nonlocal past
        one_call = fused if rival.compiled else None
        sample = sample_tokens(predict, space, world.sampling, seeds, seeds, fused=one_call)
        window = torch.cat((past, sample.tokens[:, None]), 1)
        rival.outcome(window, actions)
        rival.show(window, first)
        past = window[:, 1:]

    return step


def seconds(steps: list[Callable[[], object]], turns: int, calls: list[int]) -> list[float]:
    """Return the median seconds of one call, for each function in `steps`.

    The functions alternate, so that they share the machine's slow periods. In each turn, a function
    is called as often as its entry in `calls` says. The first turn is warm-up.
    """
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(1 + turns):
        for step, num, own in zip(steps, calls, times, strict=True):
            begin = time.perf_counter()
            for _ in range(num):
                step()
            own.append((time.perf_counter() - begin) / num)
    return [statistics.median(own[1:]) for own in times]


def at_frames(world: WorldModel, marks: tuple[int, ...], around: int) -> list[float]:
    """Return the median seconds per frame near each of the frame numbers in `marks`.

    There is one dream per mark, and `around` frames around the mark are timed. Frames before them
    take one pass each, to save time.
    """
    steps, sampling = [streaming(world, 1) for _ in marks], world.sampling
    world.sampling = replace(sampling, steps=1)
    for step, mark in zip(steps, marks, strict=True):
        for _ in range(mark - around // 2 - 1):
            step()
    world.sampling = sampling
    return seconds(steps, around - 1, [1] * len(steps))


def measure(quick: bool) -> Measured:
    figures: dict[str, float] = {}
    rows: list[list[object]] = [["s/frame", "streaming", "recomputing", "speed-up"]]
    world = make_world(small(NUM_ACTIONS), SMALL_STEPS)
    rival = Recomputer(world, compile=not quick)
    if not quick:
        world = CompiledWorld(world)
    for batch, turns, calls in QUICK if quick else FULL:
        both = [streaming(world, batch), recomputing(rival, batch)]
        stream, again = (t / batch for t in seconds(both, turns, [calls, 1]))
        figures[f"small_b{batch}_speedup"] = again / stream
        figures[f"small_b{batch}_s_per_frame"] = stream
        rows.append([f"SMALL, batch {batch}", stream, again, again / stream])
    for name, (objective, passes) in PLAIN.items():
        plain = make_world(small(NUM_ACTIONS), passes, objective)
        for batch, turns, calls in QUICK if quick else FULL:
            parts = max(1, min(torch.get_num_threads(), batch // MIN_ROWS))
            with threads(threads_of_an_operation(plain, torch.get_num_threads())):
                [taken] = seconds([streaming(plain, batch, parts)], turns, [calls])
            figures[f"small_{name}_b{batch}_s_per_frame"] = taken / batch
            rows.append([f"SMALL, {name}, not compiled, batch {batch}", taken / batch, "", ""])
    if quick:
        return figures, named(rows)
    first, *later = at_frames(world, (16, 100, 1000), around=15)
    rows.append(["SMALL, batch 1, frame 16", first, "", ""])
    for mark, t in zip((100, 1000), later, strict=True):
        figures[f"frame{mark}_over_frame16"] = t / first
        rows.append([f"SMALL, batch 1, frame {mark}", t, "", ""])
    world = CompiledWorld(make_world(paper(NUM_ACTIONS), PAPER_STEPS))
    [slow] = seconds([streaming(world, 1)], 9, [1])
    figures["paper_b1_s_per_frame"] = slow
    rows.append(["paper, batch 1", slow, "", ""])
    for name, (one, many) in PEERS.items():
        rows.append([f"peer, other machine: {name}, batch 1", "", one, ""])
        rows.append([f"peer, other machine: {name}, batch 16", "", many, ""])
    rows.append([f"peer, other machine: {PAPER_PEER[0]}, batch 1", "", PAPER_PEER[1], ""])
    return figures, named(rows)


def _unchanged(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return run_benchmark(
        "generation_speed",
        lambda given: measure(given.quick),
        argv,
        about=__doc__,
        quick="one row at SMALL, without compilation",
    )


if __name__ == "__main__":
    main()
