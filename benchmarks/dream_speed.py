"""Measure the speed of dreams, and the speedup and PSNR loss of adaptive sampling."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.dreams.heldout import collected
from benchmarks.timing import can_compile, ratio
from genie_gym.envs.genie import GenieVectorEnv
from genie_gym.envs.loaded_worlds import LoadedWorld, open_world, real_kwargs
from genie_gym.evaluation.metrics import frame_psnr
from genie_gym.evaluation.unseen import SEED
from genie_gym.evaluation.windows import draw_windows
from world_models.worlds.card import WorldCard

NUM_ROWS = (1, 4, 16, 64)
OVERHEAD_ROWS = 16
PASSES = 8
FIXED, ADAPTIVE = 1.0, 0.9  # thresholds for all passes, and for as few passes as a frame needs
PROMPT, AHEAD = 4, 10
EPISODES, EPISODE_STEPS = 32, 140

Step = Callable[[NDArray[np.int64]], Any]


def measure_dreams(
    world: str, quick: bool, num_rows: Sequence[int] = NUM_ROWS
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Compare the speeds of dreams, of the real game, and of the bare model (without the env).

    Args:
        world: Name or path of the world model.
        quick: Measure fewer repetitions.
        num_rows: Batch sizes (numbers of sub-envs) to measure.

    Returns:
        The results, and the rows of the table. The results are:

        * ``env_overhead``: time of an env step relative to a step of the bare model, at batch
          size 16;
        * ``adaptive_speedup``: speed of adaptive sampling relative to 8 fixed passes, at the batch
          size with the smallest gain;
        * ``adaptive_psnr_loss``: PSNR that adaptive sampling loses, in dB;
        * ``small_world_fps``: frames per second of adaptive sampling at batch size 1;
        * ``compiled_speedup``: the same speed, compiled relative to uncompiled; absent if quick or
          if there is no compiler;
        * ``most_rows_fps``: frames per second of adaptive sampling at the largest batch size;
        * ``world_parameters``: the parameter count.
    """
    loaded = open_world(world)
    figures, rows = _speeds(loaded, world, quick, num_rows)
    loss, quality_rows = _adaptive_loss(loaded, world, num_windows=32 if quick else 256)
    size = sum(weight.numel() for weight in loaded.model.parameters())
    figures |= {"adaptive_psnr_loss": loss, "world_parameters": size}
    return figures, [*rows, *quality_rows]


def _speeds(
    loaded: LoadedWorld, world: str, quick: bool, all_num_rows: Sequence[int]
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Measure frames per second of dreams, bare model and real game, in turns, per batch size."""
    figures: dict[str, float] = {}
    gains, table = [], []
    for num_rows in all_num_rows:
        fixed, adaptive = (_dream(world, num_rows, way) for way in (FIXED, ADAPTIVE))
        real = _real(loaded.card, num_rows)
        for env in (fixed, adaptive, real):
            env.reset(seed=0)
        contestants: dict[str, tuple[Step, int]] = {
            f"dream, {PASSES} passes": (fixed.step, num_rows),
            f"bare model, {PASSES} passes": (_bare_step(fixed), num_rows),
            f"dream, adaptive, up to {PASSES}": (adaptive.step, num_rows),
            f"real, {loaded.card.env_id}": (real.step, real.num_envs),
        }
        if num_rows == 1 and not quick and can_compile(loaded.device):
            fast = _dream(world, num_rows, ADAPTIVE, compile=True)
            fast.reset(seed=0)
            contestants["dream, adaptive, compiled"] = fast.step, num_rows
        taken = _in_turns(list(contestants.values()), len(fixed.actions), 2 if quick else 15)
        real.close()
        ours, bare, faster, _, *fastest = taken
        gains.append(ratio(ours, faster))
        if num_rows == OVERHEAD_ROWS:
            figures["env_overhead"] = ratio(ours, bare)
        if num_rows == 1:
            figures["small_world_fps"] = 1 / statistics.median(faster)
        if num_rows == max(all_num_rows):
            figures["most_rows_fps"] = 1 / statistics.median(faster)
        for seconds in fastest:
            figures["compiled_speedup"] = ratio(faster, seconds)
        table += [
            {
                "what": f"{loaded.card.name}, {num_rows} rows, {name}",
                "steps/s": round(1 / statistics.median(seconds)),
                "env / this": "" if seconds is ours else f"{ratio(seconds, ours):.2f}",
            }
            for name, seconds in zip(contestants, taken, strict=True)
        ]
    return {**figures, "adaptive_speedup": min(gains)}, table


def _dream(world: str, num_rows: int, threshold: float, compile: bool = False) -> GenieVectorEnv:
    return GenieVectorEnv(world, num_rows, steps=PASSES, threshold=threshold, compile=compile)


def _real(card: WorldCard, num_rows: int) -> gym.vector.VectorEnv:
    """Make the real game; each emulator is a process, so there is at most one per core."""
    if not card.env_id.startswith("Procgen/"):
        num_rows = min(num_rows, os.cpu_count() or 1)
    return gym.make_vec(card.env_id, num_envs=num_rows, **real_kwargs(card))


def _bare_step(env: GenieVectorEnv) -> Step:
    """Return a function that steps the env's model without the env."""
    starts, model, device = env.world.starts, env.model, env.world.device
    drawn = torch.arange(env.num_envs) % len(starts.frames)
    state = model.start(starts.frames[drawn].to(device), starts.actions[drawn].to(device))

    def step(actions: NDArray[np.int64]) -> Tensor:
        nonlocal state
        state, prediction = model.step(state, torch.from_numpy(actions).to(device))
        return prediction.frames.cpu()

    return step


def _in_turns(
    contestants: list[tuple[Step, int]], num_actions: int, rounds: int
) -> list[list[float]]:
    """Return the seconds per frame of each contestant in each round after warm-up.

    A contestant is a function to time and its number of sub-envs, ``(step, number)``.
    """
    rng = np.random.default_rng(0)
    taken: list[list[float]] = [[] for _ in contestants]
    for _ in range(1 + rounds):
        for (step, num_rows), seconds in zip(contestants, taken, strict=True):
            actions = rng.integers(num_actions, size=(max(2, 8 // num_rows), num_rows))
            begin = time.perf_counter()
            for chosen in actions:
                step(chosen)
            seconds.append((time.perf_counter() - begin) / actions.size)
    return [seconds[1:] for seconds in taken]


def _adaptive_loss(
    loaded: LoadedWorld, world: str, num_windows: int
) -> tuple[float, list[dict[str, Any]]]:
    """Return the PSNR in dB that adaptive sampling loses over 10 steps with the same seeds."""
    played = collected(loaded.card, episodes=EPISODES, max_steps=EPISODE_STEPS, seed=SEED)
    windows = draw_windows(played, num=num_windows, prompt=PROMPT, steps=AHEAD, seed=0)
    given = [x.to(loaded.device) for x in (windows.prompt, windows.actions, windows.seeds)]
    models = [_dream(world, 1, way).model for way in (FIXED, ADAPTIVE)]
    dreams = [model.rollout(*given).frames.cpu() for model in models]
    copy = windows.prompt[:, -1:].expand_as(windows.real)
    fixed, adaptive, copied = (
        float(frame_psnr(frames, windows.real).mean()) for frames in (*dreams, copy)
    )
    scores = {
        f"{PASSES} passes": fixed,
        f"adaptive, up to {PASSES}": adaptive,
        "copying the last real frame": copied,
    }
    where = f"{loaded.card.name}, {len(windows)} dreams of {AHEAD} steps"
    rows = [{"what": f"{where}, {name}", "PSNR": f"{x:.2f}"} for name, x in scores.items()]
    return fixed - adaptive, rows
