"""`genie-gym dream-train`: trains an agent in a dream; `--rounds` improves the world model, too."""

from __future__ import annotations

from agents.dream_config import RECIPES, DreamTrainConfig, recipe_of
from agents.dream_train import dream_train, settings_of
from agents.loop.dream_rounds import DreamRounds
from agents.saved_policy import collect_command
from genie_gym.build.stages import Manifest, run_stages
from genie_gym.envs.loaded_worlds import open_world
from world_models.command_line import parse, show_usage
from world_models.extras import require
from world_models.settings import begin

__all__ = ["main", "run_rounds"]

USAGE = """usage: genie-gym dream-train WORLD [--out DIR] [--steps N] [--starts DATASET] ...

Trains PPO in the dream of a world (its name or folder) and evaluates it in the dream and in the
real game. With --rounds R, each round then fine-tunes the world on the agent's real play and trains
a new agent in it.

worlds with their own recipe:
{recipes}

genie-gym dream-train WORLD --help lists every setting of the world's recipe.
"""


def main(argv: list[str]) -> int:
    """Runs the command line: a world model, then any settings to override."""
    if not argv or argv[0].startswith("-"):
        recipes = "\n".join(f"  {name:<16}{make.__doc__}" for name, make in RECIPES.items())
        return show_usage(USAGE.format(recipes=recipes), argv)
    card = open_world(argv[0]).card  # raises early for an unknown world model
    prog = f"genie-gym dream-train {argv[0]}"
    config = parse(DreamTrainConfig, argv, default=recipe_of(argv[0]), prog=prog)
    if config.rounds:
        rounds = DreamRounds(config)
        if not run_rounds(config, rounds):
            print("stopped: run the same command to resume")
            return 130
        results, agent = rounds.results(), rounds.agent(config.rounds + 1)
        print(f"real frames collected: {rounds.num_frames():,}")
    else:
        results, agent = dream_train(config), config.out
    for number, result in enumerate(results, start=1):
        print(
            f"{'agent' if config.rounds else 'evaluation'} {number}: return "
            f"{result['dream_return']:.4g} in the dream, {result['real_return']:.4g} in the real "
            f"game ({result['real_frames']:,.0f} real frames)"
        )
    print(f"collect episodes with it: {collect_command(card.env_id, agent, card.env_kwargs)}")
    return 0


def run_rounds(config: DreamTrainConfig, rounds: DreamRounds) -> bool:
    """Runs or resumes the rounds; returns False if they were interrupted."""
    # Fail now rather than after training the first agent.
    require("lightning.fabric", extra="train", what="training needs Lightning")
    begin(config.out / "rounds.json", settings_of(config), may_change=("out", "rounds"))
    return run_stages(rounds.stages(), Manifest(config.out / "stages.jsonl"))
