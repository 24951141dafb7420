"""Compare agents trained in a dream with agents trained in the real game, by their real returns.

Both kinds of agents use the same algorithm, network and number of steps, with several seeds each.
Random play is the baseline. Dreams start from frames of real episodes, which are collected first.

Run: python -m benchmarks.transfer [--worlds W ...] [--steps N] [--seeds N] [--start-policy P]
    [--eval-every N] [--quick] [--json FILE]
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from agents.dream_config import DreamTrainConfig, recipe_of
from agents.dream_train import dream_train
from agents.returns import make_real, play_out
from benchmarks.agent_strip import write_agent_strip
from benchmarks.report import Measured, run_benchmark
from benchmarks.statistics import better_than, iqm
from genie_gym.collect.command import CollectConfig, collect
from genie_gym.collect.policy_spec import make_policy
from genie_gym.envs.loaded_worlds import open_world
from world_models.episodes import EpisodeDataset

WORLDS = ("CrazyClimber", "Freeway", "Pong")
ROWS = 4  # sub-envs of the real env in the final evaluation
RANDOM = "random"
ARMS: tuple[Literal["dream", "real"], ...] = ("dream", "real")
Returns = dict[str, list[list[float]]]
"""Maps each variant ("dream", "real" or random play) to its runs' returns in the real game."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The comparison for one world model.

    Attributes:
        world: Name or path of the world model.
        out: Folder for all runs; finished runs in it are not repeated.
        steps: Training steps of each run.
        seeds: Number of runs of each variant ("dream" or "real": where the agents are trained).
        episodes: Number of evaluation episodes of each run.
        eval_steps: Maximum steps of an evaluation episode.
        start_policy: Policy that plays the real episodes that dreams start from.
        start_episodes: Number of these episodes.
        num_envs: Number of sub-envs that a run trains on.
        eval_every: Steps between evaluations; None for one evaluation at the end. Runs with the
            same value can be continued with more steps.
    """

    world: str
    out: Path
    steps: int
    seeds: int
    episodes: int = 8
    eval_steps: int = 500
    start_policy: str = "mixed"
    start_episodes: int = 40
    num_envs: int = 16
    eval_every: int | None = None

    def run(self) -> tuple[Returns, dict[str, int]]:
        """Train and evaluate all agents; return real returns and the numbers of real frames."""
        starts = self.out / "starts"
        card = open_world(self.world).card
        kwargs = {key: str(value) for key, value in card.env_kwargs.items()}
        play = CollectConfig(
            env=card.env_id,
            out=starts,
            policy=self.start_policy,
            episodes=self.start_episodes,
            seed=1_000_000,  # episodes that the world model was not trained on
            env_kwargs=kwargs,
        )
        if collect(play):
            raise KeyboardInterrupt
        returns: Returns = {RANDOM: [self.play(RANDOM, seed) for seed in range(self.seeds)]}
        for arm in ARMS:
            returns[arm] = []
            for seed in range(self.seeds):
                config = self.config(arm, seed, starts)
                dream_train(config)
                returns[arm].append(self.play(str(config.out), seed))
        learned = int(card.provenance["data"]["frames"])
        num_starts = int(EpisodeDataset(starts).num_frames.sum())
        frames = {"world": learned, "starts": num_starts, "real": self.steps}
        return returns, frames

    def config(self, arm: Literal["dream", "real"], seed: int, starts: Path) -> DreamTrainConfig:
        """Return the settings of a run.

        Dreams start at any moment of a real episode, so dreamed episodes can be short. The real
        game starts at its beginning, so real episodes are as long as in the evaluation.
        """
        recipe = recipe_of(self.world)
        return replace(
            recipe,
            out=self.out / f"{arm}-{seed}",
            where=arm,
            starts=starts,
            seed=seed,
            num_envs=self.num_envs,
            steps=self.steps,
            eval_every=self.steps if self.eval_every is None else self.eval_every,
            eval_steps=self.eval_steps,
            horizon=recipe.horizon if arm == "dream" else self.eval_steps,
            max_overpay=0.0,
        )

    def play(self, policy: str, seed: int) -> list[float]:
        """Return a policy's returns in the real game."""
        env = make_real(self.world, ROWS, self.eval_steps)
        actions: Any = env.unwrapped.actions  # type: ignore[attr-defined]
        shape = {"num_envs": ROWS, "max_steps": self.eval_steps}
        kwargs = open_world(self.world).card.env_kwargs
        player = make_policy(policy, actions, env_kwargs=kwargs, **shape)
        returns: list[float] = []
        for batch in range(self.episodes // ROWS):
            number = 10_000 * (seed + 1) + batch * ROWS
            first, _ = env.reset(seed=number)
            seeds = range(number, number + ROWS)
            played = play_out(env, first, player, seeds=seeds, max_steps=self.eval_steps)
            returns += played.returns.tolist()
        env.close()
        return returns


def summary(returns: Returns) -> dict[str, Any]:
    """Return each variant's mean return, and the gain in "dream" relative to the gain in "real".

    A gain is the mean return minus the mean return of random play. With four or more runs, the
    means are interquartile means.
    """
    runs = {arm: np.array(found).mean(1) for arm, found in returns.items()}
    means = {arm: iqm(found[:, None]) for arm, found in runs.items()}
    floor, gain = means[RANDOM][0], means["real"][0] - means[RANDOM][0]
    return {
        "means": means,
        "ratio": (means["dream"][0] - floor) / gain if gain > 0 else None,
        "better_than_random": better_than(runs["dream"].tolist(), runs[RANDOM].tolist()),
        "better_than_real": better_than(runs["dream"].tolist(), runs["real"].tolist()),
    }


def measure(given: Namespace) -> Measured:
    """Compare agents trained in the dream, agents trained in the real game, and random play.

    Returns:
        The results, and a table with one row per game and variant. For each game, the results
        include:

        * ``transfer_ratio``: the gain over random play of the agents trained in the dream, divided
          by the same gain of the agents trained in the real game (means over the seeds);
        * ``beats_random``: 1 if the 95% interval of the agents trained in the dream lies above the
          interval of random play.
    """
    if given.episodes < ROWS or given.episodes % ROWS:
        raise ValueError(f"--episodes must be a multiple of {ROWS}, got {given.episodes}")
    figures: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    for world in given.worlds:
        name = Path(world).name
        amounts: dict[str, Any] = {"episodes": given.episodes}
        if given.quick:
            amounts = {"episodes": ROWS, "eval_steps": 50, "start_episodes": 4, "num_envs": 4}
        steps = 512 if given.quick else given.steps
        comparison = Comparison(
            world=world,
            out=given.work / name,
            steps=steps,
            seeds=given.seeds,
            start_policy=given.start_policy,
            eval_every=given.eval_every,
            **amounts,
        )
        returns, frames = comparison.run()
        found = summary(returns)
        if given.pictures is not None:
            picture = given.pictures / f"agent_{name.lower()}.png"
            agent = comparison.out / "dream-0"
            write_agent_strip(world, agent, comparison.eval_steps, picture)
        key = name.lower()
        if found["ratio"] is not None:  # the agents trained in the real game have learned something
            figures[f"transfer_ratio_{key}"] = found["ratio"]
        dream, random = found["means"]["dream"], found["means"][RANDOM]
        figures[f"beats_random_{key}"] = float(dream[1] > random[2])
        figures[f"better_than_real_{key}"] = found["better_than_real"]
        for arm, mean in found["means"].items():
            figures |= {f"{arm}_{key}{end}": x for end, x in zip(ENDS, mean, strict=True)}
            rows.append(_row(name, arm, mean, returns[arm], frames))
    return figures, rows


ENDS = ("", "_low", "_high")


def _row(
    game: str,
    arm: str,
    mean: tuple[float, float, float],
    returns: list[list[float]],
    frames: dict[str, int],
) -> dict[str, Any]:
    dream = f"{frames['world']:,} + {frames['starts']:,}"
    used = {RANDOM: "0", "real": f"{frames['real']:,}", "dream": dream}
    seeds: NDArray[np.float64] = np.array(returns).mean(1)
    return {
        "game": game,
        "trained in": arm,
        "real return": f"{mean[0]:.4g} ({mean[1]:.4g} to {mean[2]:.4g})",
        "by seed": ", ".join(f"{x:.4g}" for x in seeds),
        "real frames": used[arm],
    }


def options(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--worlds", nargs="+", default=WORLDS, help="names or paths of worlds")
    parser.add_argument("--steps", type=int, default=40_960, help="training steps per run")
    parser.add_argument(
        "--eval-every", type=int, help="steps between evaluations (default: one at the end)"
    )
    parser.add_argument("--seeds", type=int, default=3, help="number of runs of each variant")
    parser.add_argument("--episodes", type=int, default=8, help="real episodes per evaluation")
    parser.add_argument("--start-policy", default="mixed", help="collects what dreams start from")
    parser.add_argument("--pictures", type=Path, help="folder for images of the agents")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/transfer"), help="folder for the runs"
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return run_benchmark("transfer", measure, argv, about=__doc__, options=options)


if __name__ == "__main__":
    main()
