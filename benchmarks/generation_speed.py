"""How long a world takes to dream a frame: streaming against recomputing the window.

Both ways run in the same process on the same bfloat16 weights, decoding to pixels included: 8
passes per frame at SMALL, 25 at the paper's size. The weights are untrained: time does not depend
on them (sampling is not adaptive here). Both ways are compiled, and the time that takes is not
counted; with --quick, which has no time to compile, neither is.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from benchmarks.report import Measured, named, run_benchmark
from world_models.inference.compile import compiled_methods, twin
from world_models.inference.sampling import Draft, SamplingConfig, reveal, sample_tokens
from world_models.inference.world import WorldModel
from world_models.presets import WorldConfig, build, paper, small

NUM_ACTIONS = 5
WINDOW = 16
SMALL_STEPS, PAPER_STEPS = 8, 25
# What other models need on 2 cores of an AMD EPYC, s/frame at SMALL: batch 1, batch 16.
PEERS = {"Jafar": (0.28, 0.40), "IRIS, KV cache": (0.23, 0.046), "DIAMOND": (0.10, 0.125)}
PAPER_PEER = ("Jafar, paper size", 25.7)


def make_world(config: WorldConfig, steps: int) -> WorldModel:
    torch.manual_seed(0)
    world = build(replace(config, sampling=SamplingConfig(steps=steps))).eval()
    return world.to(torch.bfloat16)


def prompt(world: WorldModel | Recomputer, batch: int, num_frames: int) -> tuple[Tensor, Tensor]:
    size = world.tokenizer.config.frame_size
    frames = torch.randint(256, (batch, num_frames, size, size, 3), dtype=torch.uint8)
    return frames, torch.randint(NUM_ACTIONS, (batch, num_frames - 1))


def streaming(world: WorldModel, batch: int) -> Callable[[], object]:
    """One call dreams one frame more."""
    state = world.start(*prompt(world, batch, 1))
    action = torch.randint(NUM_ACTIONS, (batch,))

    def step() -> None:
        nonlocal state
        state, _ = world.step(state, action)

    return step


class Recomputer(nn.Module):
    """The other way: the same weights, each pass over the whole window."""

    def __init__(self, world: WorldModel):
        super().__init__()
        self.dynamics, self.tokenizer = world.dynamics, world.tokenizer
        self.sampling = world.sampling

    @torch.no_grad()
    def reveal(
        self, draft: Draft, schedule: Tensor, drawn: Tensor, past: Tensor, actions: Tensor
    ) -> tuple[Tensor, Draft]:
        window = torch.cat((past, draft.tokens[:, None]), 1)
        found = self.dynamics.predict_plain(window, actions)[:, -1]
        logits = self.dynamics.to_logits(found)
        return logits, reveal(draft, logits, schedule, drawn, self.sampling)

    @torch.no_grad()
    def outcome(self, window: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        finished = self.dynamics.finished(window, actions)[:, -1]
        return self.dynamics.outcome.predict(finished)

    @torch.no_grad()
    def show(self, window: Tensor, first: Tensor) -> Tensor:
        return self.tokenizer.decode(window, first)

    def compiled(self) -> Recomputer:
        own = twin(self)
        for name, run in compiled_methods(self, "reveal", "outcome", "show").items():
            setattr(own, name, run)
        return own


def recomputing(rival: Recomputer, batch: int) -> Callable[[], object]:
    """One call dreams one frame more, each sampling pass over the whole window."""
    config = rival.dynamics.config
    num_tokens = config.grid[0] * config.grid[1]
    tokens = torch.randint(config.num_codes, (batch, WINDOW - 1, num_tokens))
    actions = torch.randint(NUM_ACTIONS, (batch, WINDOW - 1))
    hidden = torch.full_like(tokens[:, 0], rival.dynamics.mask_token)
    seeds, first = torch.arange(batch), prompt(rival, batch, 1)[0]

    def run(draft: Draft, rows: Tensor, schedule: Tensor, drawn: Tensor) -> tuple[Tensor, Draft]:
        return rival.reveal(draft, schedule, drawn, tokens[rows], actions[rows])

    @torch.no_grad()
    def step() -> None:
        nonlocal tokens
        frame = sample_tokens(run, hidden, seeds, seeds, rival.sampling).tokens
        window = torch.cat((tokens, frame[:, None]), 1)
        rival.outcome(window, actions)
        rival.show(window, first)
        tokens = window[:, 1:]

    return step


def seconds(steps: list[Callable[[], object]], turns: int, calls: list[int]) -> list[float]:
    """Median time of one call of each step.

    They take turns of so many calls, and thus share the machine's slow minutes; the first turn does
    not count.
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
    """Seconds per frame of dreams as long as each mark: the median of ``around`` frames there.

    The way to the mark is dreamed with one pass per frame, to get there sooner.
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
    rival = Recomputer(world)
    if not quick:
        world, rival = world.compiled(), rival.compiled()
    for batch, turns, calls in ((1, 2 if quick else 15, 8), (16, 1 if quick else 7, 2)):
        both = [streaming(world, batch), recomputing(rival, batch)]
        stream, again = (t / batch for t in seconds(both, turns, [calls, 1]))
        figures[f"small_b{batch}_speedup"] = again / stream
        figures[f"small_b{batch}_s_per_frame"] = stream
        rows.append([f"SMALL, batch {batch}", stream, again, again / stream])
    first, *later = at_frames(world, (16, 100, 1000), around=15)
    rows.append(["SMALL, batch 1, frame 16", first, "", ""])
    for mark, t in zip((100, 1000), later, strict=True):
        figures[f"frame{mark}_over_frame16"] = t / first
        rows.append([f"SMALL, batch 1, frame {mark}", t, "", ""])
    world = make_world(paper(NUM_ACTIONS), PAPER_STEPS)
    if not quick:
        world = world.compiled()
    [slow] = seconds([streaming(world, 1)], 1 if quick else 9, [1])
    figures["paper_b1_s_per_frame"] = slow
    rows.append(["paper, batch 1", slow, "", ""])
    for name, (one, many) in PEERS.items():
        rows.append([f"peer: {name}, batch 1", "", one, ""])
        rows.append([f"peer: {name}, batch 16", "", many, ""])
    rows.append([f"peer: {PAPER_PEER[0]}, batch 1", "", PAPER_PEER[1], ""])
    return figures, named(rows)


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    return run_benchmark(
        "generation_speed",
        lambda given: measure(given.quick),
        argv,
        about=__doc__,
        quick="fewer repetitions, not compiled",
    )


if __name__ == "__main__":
    main()
