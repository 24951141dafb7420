"""Draw dreams of 1,000 frames for the shipped world models, one image per model.

Each row of an image is one dream: the real frame that the dream starts from, then dreamed frames.
The titles are step numbers. The sticky policy chooses the actions, and predicted terminations are
ignored.

Run: python -m benchmarks.studies.long_dreams [--out DIR] [--worlds W ...]
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.report import prog, say
from genie_gym.collect.plans import sticky_plan
from genie_gym.envs.loaded_worlds import open_world
from genie_gym.evaluation.dreamer import Dreamer
from genie_gym.pictures import Picture, labelled, scaled, side_by_side, write_png
from world_models.worlds.find import SHIPPED

STEPS = (0, 1, 10, 25, 50, 100, 200, 400, 600, 800, 1000)
DREAMS, HEIGHT, GAP = 5, 80, 4


def draw(world: str) -> Picture:
    """Draw some dreams of a world model."""
    loaded = open_world(world, "auto", "float32")
    plan = sticky_plan(loaded.actions)
    plays = [plan(np.random.default_rng(row), STEPS[-1]) for row in range(DREAMS)]
    # Starts are ordered by episode, so evenly spaced ones come from different episodes.
    starts = np.linspace(0, len(loaded.starts.frames) - 1, DREAMS).round().astype(int)
    first = loaded.starts.frames[torch.from_numpy(starts), :1]
    dreamer = Dreamer(loaded.model, device=loaded.device)
    state = dreamer.start(first, torch.zeros(DREAMS, 0, dtype=torch.int64), torch.arange(DREAMS))
    _, dreamed = dreamer.follow(state, torch.from_numpy(np.stack(plays)))
    frames = torch.cat((first.cpu(), dreamed), 1)[:, list(STEPS)].transpose(0, 1).numpy()
    columns = [np.concatenate([_framed(frame) for frame in column]) for column in frames]
    return side_by_side([labelled(c, str(t)) for c, t in zip(columns, STEPS, strict=True)])


def _framed(frame: Picture) -> Picture:
    return np.pad(scaled(frame, height=HEIGHT), ((0, GAP), (0, 0), (0, 0)), constant_values=32)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = ArgumentParser(prog=prog("studies.long_dreams"), description=__doc__)
    shipped = sorted(path.name for path in SHIPPED.iterdir())
    parser.add_argument("--worlds", nargs="+", default=shipped, help="names or paths of worlds")
    parser.add_argument("--out", type=Path, default=Path("docs/images/long"), help="output folder")
    given = parser.parse_args(argv)
    for world in given.worlds:
        path = given.out / f"{Path(world).name.lower()}.png"
        write_png(path, draw(world))
        say(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
