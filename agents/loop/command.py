"""`genie-gym loop`: trains a world model, explores where it is uncertain, and fine-tunes it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from agents.loop.graph import Loop, scores
from agents.loop.recipes import LOOPS, LoopRecipe, for_env
from genie_gym.build.stages import Manifest, print_stages, run_stages
from genie_gym.envs.make import find_spec
from world_models.command_line import parse, show_usage
from world_models.extras import require
from world_models.settings import begin

__all__ = ["LoopConfig", "main", "run_loop"]

USAGE = """usage: genie-gym loop ENV [--rounds R] [--out DIR] [--only STAGE] [--list] ...

games with their own recipe:
{games}

genie-gym loop ENV --help lists every setting of the game's recipe.
"""


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """Improves a world model by exploring where it is uncertain.

    Trains a world model on random play. Each round then trains an AutoExplore agent, collects data
    with the agent, fine-tunes the world model on this data, and compares the result with a world
    model that was fine-tuned on random play.

    Run the same command again to resume after an interruption, or to add rounds.

    Attributes:
        recipe: The game, and the size of each stage.
        out: Folder for datasets, agents, world models and scores.
        rounds: Number of rounds of exploring and fine-tuning.
        seed: Seed of all randomness.
        world: Name or path of a world model to start from; by default, a new world model is trained
            on random play.
        test_data: Held-out episodes to evaluate on (a dataset folder, such as data/test from
            another loop); by default, an agent is trained on the game's own reward and
            collects these episodes.
        only: Run only this stage; None runs all stages that are not done.
        list: Only print the stages and which of them are done.
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
            raise ValueError(
                "rounds must be at least 1 and seed at least 0, got "
                f"rounds={self.rounds} and seed={self.seed}"
            )
        if self.test_data is not None and not self.test_data.is_dir():
            raise ValueError(
                f"--test-data must be the folder of a dataset, but {self.test_data} is not a folder"
            )

    def loop(self) -> Loop:
        """Returns the loop with these settings."""
        out = self.out.absolute()
        test_data = self.test_data and self.test_data.absolute()
        return Loop(
            recipe=self.recipe, out=out, rounds=self.rounds, seed=self.seed, world=self.world,
            test_data=test_data,
        )  # fmt: skip


def main(argv: list[str]) -> int:
    """Runs the command line: an env id, then any settings to override."""
    if not argv or argv[0].startswith("-"):
        games = "\n".join(f"  {make().env:<36}{make.__doc__}" for make in LOOPS)
        return show_usage(USAGE.format(games=games), argv)
    find_spec(argv[0])  # raises early for an unknown id, with suggestions
    recipe = for_env(argv[0])
    default = LoopConfig(recipe=recipe, out=Path("runs/loop") / recipe.name)
    config = parse(LoopConfig, argv[1:], default=default, prog=f"genie-gym loop {argv[0]}")
    if config.list:
        print_stages(config.loop().stages(), _manifest(config))
        return 0
    finished = run_loop(config)
    print(_table(scores(config.loop())))
    return 0 if finished else 130


def run_loop(config: LoopConfig) -> bool:
    """Runs or resumes a loop; returns False if it was interrupted."""
    loop = config.loop()
    if config.only is None:  # fail now rather than after hours of collecting
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
