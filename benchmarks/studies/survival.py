"""Check that the survival measure distinguishes intact dreams from damaged ones.

It judges 200-frame dreams of shipped world models. The models are unchanged, sampled at temperature
3, or damaged by noise on all matrices of the dynamics, as large as the matrices' weights. Held-out
real frames are judged too.

Run: python -m benchmarks.studies.survival [--json FILE]
"""

from __future__ import annotations

import copy
import sys
from argparse import Namespace

import numpy as np
import torch
from torch import Tensor

from benchmarks.dreams.heldout import collected
from benchmarks.dreams.survival import MARKS, survival
from benchmarks.report import Measured, run_benchmark, say
from genie_gym.collect.plans import sticky_plan
from genie_gym.envs.loaded_worlds import open_world
from genie_gym.evaluation.dreamer import Dreamer
from genie_gym.evaluation.unseen import SEED
from genie_gym.evaluation.windows import Windows, draw_windows
from world_models.inference.world import WorldModel

WORLDS = ("Pong", "Freeway", "CrazyClimber", "Hero")  # not CoinRun, which scrolls
HOT = 3.0  # temperature
DREAMS, QUICK_DREAMS = 8, 2


def noised(model: WorldModel) -> WorldModel:
    """Return a copy of a model with noise on each dynamics matrix, as large as its weights."""
    damaged = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in damaged.dynamics.parameters():
            if weights.ndim >= 2:
                weights.add_(weights.std() * torch.randn(weights.shape, generator=generator))
    return damaged


def dream(model: WorldModel, windows: Windows, actions: Tensor) -> Tensor:
    """Return the frames ``(B, n, H, W, 3)`` of dreams from the windows' first frames."""
    dreamer = Dreamer(model)
    state = dreamer.start(windows.prompt, windows.actions[:, :0], windows.seeds)
    return dreamer.follow(state, actions)[1]


def measure(given: Namespace) -> Measured:
    """Measure all world models."""
    figures, rows = {}, []
    for name in WORLDS:
        world = open_world(name, "auto", "float32")
        episodes = collected(world.card, episodes=24, max_steps=500, seed=SEED)
        num = QUICK_DREAMS if given.quick else DREAMS
        windows = draw_windows(episodes, num=num, prompt=1, steps=1, seed=0)
        plan = sticky_plan(world.actions)
        chosen = np.stack([plan(np.random.default_rng(row), MARKS[-1]) for row in range(num)])
        models = {
            "": world.model,
            "_hot": world.model.sampled(temperature=HOT),
            "_noised": noised(world.model),
        }
        for kind, model in models.items():
            say(f"{name}{kind}")
            found = survival(dream(model, windows, torch.from_numpy(chosen)), episodes)
            assert found is not None
            key = name.lower()
            for figure, value in found.figures().items():
                figures[f"{figure}_{key}" + ("" if "real" in figure else kind)] = value
        row = {title: figures[f"survival_{figure}"] for title, figure in _columns(name.lower())}
        rows.append({"world": name, **row})
    return figures, rows


def _columns(key: str) -> list[tuple[str, str]]:
    kinds = {"dream": "", "temperature 3": "_hot", "noised": "_noised"}
    dreams = [(title, f"200_{key}{kind}") for title, kind in kinds.items()]
    return [("real", f"real_{key}"), *dreams]


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return run_benchmark(
        "studies.survival", measure, argv, about=__doc__, quick=f"{QUICK_DREAMS} dreams per world"
    )


if __name__ == "__main__":
    sys.exit(main())
