"""`genie-gym loop`: collect, train a world, explore what it does not know, and again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
import tyro

import genie_gym  # noqa: F401  (registers the env ids)
from agents.loop.graph import Loop, scores
from agents.loop.recipes import LOOPS, LoopRecipe, for_env
from genie_gym.build.stages import Manifest, run_stages
from world_models.extras import require
from world_models.settings import begin

__all__ = ["LoopConfig", "main", "run_loop"]

USAGE = """usage: genie-gym loop ENV [--rounds R] [--out DIR] [--only STAGE] [--list] ...

games with a recipe of their own:
{games}

genie-gym loop ENV --help lists every setting of the game's recipe.
"""


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """Explores what a world does not know, learns it, and again.

    Collects at random and trains a world; then in each round trains AutoExplore, collects with
    it, fine-tunes the world, and judges it beside one that was fine-tuned on random play.

    Run the same command again to go on after an interruption, or with more rounds.

    Attributes:
        recipe: The game and the sizes.
        out: The loop's folder.
        rounds: How often to explore and learn.
        seed: Of everything.
        world: Begin with this world (name or path) in place of training one on random play.
        test_data: Judge by these held-out episodes (a dataset's folder, such as data/test of
            another loop's) in place of training an agent that plays them.
        only: Run this stage alone.
        list: Say which stages there are and which are done, and run none.
    """

    recipe: Annotated[LoopRecipe, tyro.conf.arg(name="")]
    out: Path
    rounds: int = 1
    seed: int = 0
    world: str | None = None
    test_data: Path | None = None
    only: str | None = None
    list: bool = False

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.seed < 0:
            raise ValueError(f"rounds must be at least 1 and seed not negative, got {self}")
        if self.test_data is not None and not self.test_data.is_dir():
            raise ValueError(f"--test-data {self.test_data} is no folder")

    def loop(self) -> Loop:
        """What is run."""
        out = self.out.absolute()
        test_data = self.test_data and self.test_data.absolute()
        return Loop(
            recipe=self.recipe, out=out, rounds=self.rounds, seed=self.seed, world=self.world,
            test_data=test_data,
        )  # fmt: skip


def main(argv: list[str]) -> int:
    """The command line: an env id, then any setting to override."""
    if not argv or argv[0].startswith("-"):
        games = "\n".join(f"  {make().env:<36}{make.__doc__}" for make in LOOPS)
        print(USAGE.format(games=games))
        return 0
    gym.spec(argv[0])  # an unknown id is told at once, with near names
    recipe = for_env(argv[0])
    default = LoopConfig(recipe=recipe, out=Path("runs/loop") / recipe.name)
    config = tyro.cli(LoopConfig, args=argv[1:], default=default, prog=f"genie-gym loop {argv[0]}")
    if config.list:
        done = _manifest(config).done()
        for stage in config.loop().stages():
            print("done   " if stage.name in done else "to do  ", stage.name)
        return 0
    finished = run_loop(config)
    print(_table(scores(config.loop())))
    return 0 if finished else 130


def run_loop(config: LoopConfig) -> bool:
    """Runs a loop, or goes on with it; False if it was asked to stop."""
    loop = config.loop()
    if config.only is None:  # told before hours of play
        require("lightning.fabric", extra="train", what="training needs Lightning")
    settings = {name: getattr(config, name) for name in ("seed", "world", "test_data", "rounds")}
    settings["recipe"] = asdict(config.recipe)
    begin(config.out / "loop.json", settings, may_change=("rounds",))
    return run_stages(loop.stages(), _manifest(config), only=config.only)


def _manifest(config: LoopConfig) -> Manifest:
    return Manifest(config.out / "stages.jsonl")


def _table(rows: list[dict[str, Any]]) -> str:
    columns = ("world", "psnr", "changed_psnr", "delta_psnr", "psnr_copy", "psnr_ceiling")
    lines = ["  ".join(f"{name:>13}" for name in columns)]
    for row in rows:
        cells = (f"{row['world']:>13}", *(f"{row[name]:>13.2f}" for name in columns[1:]))
        lines.append("  ".join(cells))
    return "\n".join(lines)
