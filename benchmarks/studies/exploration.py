"""Compare how much of a game random play, sticky random play, RND and AutoExplore cover.

All env steps count, including the steps of training. Each run (an explorer and a seed) is stored in
--out, so an interrupted benchmark resumes with the next run, and runs can be added.

Run: python -m benchmarks.studies.exploration --env E --world W [--steps N] [--quick] [--json FILE]
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv, VectorWrapper

from agents.explore_config import ExploreConfig
from agents.ppo import new_ppo
from agents.rewards import RewardedEnv
from benchmarks.report import Measured, run_benchmark
from benchmarks.studies.exploration_picture import picture
from genie_gym.collect.policy_spec import make_policy
from genie_gym.coverage import Coverage
from world_models.files import write_json

REWARDS = {"rnd": "novelty", "autoexplore": "streaming"}
EXPLORERS = ("random", "sticky", *REWARDS)
NUM_POINTS = 40  # points of a curve
QUICK_STEPS = 2_000


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The settings that all runs share.

    Attributes:
        env: Env id.
        world: World model whose uncertainty rewards AutoExplore; all runs use its env settings.
        mode: Reward mode: streaming, paper or surprise.
        steps: Env steps, summed over sub-envs.
        num_envs: Number of sub-envs.
        max_steps: Maximum length of an episode.
        entropy: Weight of the entropy bonus for the learning agents.
    """

    env: str
    world: str
    mode: str = "streaming"
    steps: int = 100_000
    num_envs: int = 16
    max_steps: int = 500
    entropy: float = ExploreConfig.entropy

    def explored(self, explorer: str, seed: int) -> RewardedEnv:
        """Return the env with this explorer's reward."""
        reward = {**REWARDS, "autoexplore": self.mode}.get(explorer, "own")
        return RewardedEnv(
            env=self.env, world=self.world, reward=reward, num_envs=self.num_envs,
            max_steps=self.max_steps, seed=seed,
        )  # fmt: skip


class Watched(VectorWrapper):
    """Counts the distinct places that an explorer visits, and records their number over time.

    Attributes:
        curve: Env steps, places, mean furthest cell per level, and finished levels, at each of
            `NUM_POINTS` points.
    """

    def __init__(self, env: VectorEnv, steps: int):
        super().__init__(env)
        self._coverage = Coverage(env.unwrapped)  # type: ignore[arg-type]
        self._steps, self._every = 0, steps / NUM_POINTS
        self.curve: list[tuple[int, int, float, int]] = []

    def reset(self, **kwargs: Any) -> Any:
        """Reset the env."""
        frames, infos = self.env.reset(**kwargs)
        self._coverage.see(frames, infos)
        return frames, infos

    def step(self, actions: Any) -> Any:
        """Step the env and count places."""
        result = self.env.step(actions)
        coverage = self._coverage
        coverage.see(result[0], result[4])
        self._steps += self.num_envs
        if self._steps >= self._every * (len(self.curve) + 1):
            furthest = float(np.mean([*coverage.furthest.values()] or [0.0]))
            self.curve.append((self._steps, len(coverage.places), furthest, coverage.finished))
        return result


def run(budget: Budget, explorer: str, seed: int) -> dict[str, Any]:
    """Run one explorer with one seed."""
    explored = budget.explored(explorer, seed)
    env = Watched(explored.make_plain(), budget.steps)
    play = _learn if explorer in REWARDS else _draw
    play(budget, explored, env, explorer, seed)
    env.close()
    return {"curve": env.curve}


def _draw(budget: Budget, explored: RewardedEnv, env: Watched, explorer: str, seed: int) -> None:
    policy = make_policy(
        explorer,
        env.unwrapped.actions,  # type: ignore[attr-defined]
        num_envs=budget.num_envs,
        max_steps=budget.max_steps,
    )
    sequence = np.random.default_rng(seed)

    def begin(row: int) -> None:
        policy.begin(row, sequence.spawn(1)[0])

    frames, _ = env.reset(seed=seed)
    for row in range(budget.num_envs):
        begin(row)
    for _ in range(budget.steps // budget.num_envs):
        frames, _, terminated, truncated, _ = env.step(policy.act(frames))
        for row in np.flatnonzero(terminated | truncated):
            begin(int(row))


def _learn(budget: Budget, explored: RewardedEnv, env: Watched, explorer: str, seed: int) -> None:
    config = ExploreConfig(
        env=budget.env, world=budget.world, reward=explored.reward, num_envs=budget.num_envs,
        seed=seed, steps=max(budget.steps, 25_000), entropy=budget.entropy,
    )  # fmt: skip
    rows = explored.make(env)
    rows.seed(seed)
    new_ppo(config, rows).learn(budget.steps)


def summary(runs: dict[str, list[dict[str, Any]]]) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Return the results and the table rows; each explorer's list has one run per seed."""
    figures: dict[str, float] = {}
    rows = []
    for explorer, found in runs.items():
        ends = np.array([one["curve"][NUM_POINTS - 1][1:] for one in found], float)
        areas = [np.mean([point[1] for point in one["curve"][:NUM_POINTS]]) for one in found]
        numbers = {
            "places": ends[:, 0].mean(),
            "places_sd": ends[:, 0].std(ddof=1) if len(found) > 1 else float("nan"),
            "places_lowest": ends[:, 0].min(),
            "places_highest": ends[:, 0].max(),
            "places_on_the_way": np.mean(areas),
            "furthest": ends[:, 1].mean(),
            "finished": ends[:, 2].mean(),
        }
        numbers = {name: float(value) for name, value in numbers.items() if value == value}
        figures |= {f"{explorer}_{name}": value for name, value in numbers.items()}
        rows.append({"explorer": explorer, "seeds": len(found), **numbers})
    ours = [one["curve"][NUM_POINTS - 1][1] for one in runs.get("autoexplore", [])]
    for explorer, found in runs.items():
        if ours and explorer != "autoexplore":
            theirs = [one["curve"][NUM_POINTS - 1][1] for one in found]
            wins = [a > b for a, b in zip(ours, theirs, strict=False)]
            figures[f"autoexplore_beats_{explorer}"] = float(np.mean(wins))
            figures[f"autoexplore_over_{explorer}"] = float(np.mean(ours) / np.mean(theirs))
    return figures, rows


def all_runs(
    budget: Budget, explorers: list[str], seeds: int, out: Path
) -> dict[str, list[dict[str, Any]]]:
    """Return the runs of each explorer; runs stored in `out` are reused."""
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in range(seeds):
        for explorer in explorers:
            path = out / f"{explorer}-{seed}.json"
            wanted = json.loads(json.dumps(vars(budget)))
            if not path.exists():
                result = {"budget": wanted, **run(budget, explorer, seed)}
                write_json(path, result)
                print(f"{explorer}, seed {seed}: {result['curve'][-1]}", flush=True)
            kept = json.loads(path.read_text())
            if kept["budget"] != wanted:
                raise ValueError(
                    f"{path} was measured with another budget ({kept['budget']}): choose "
                    "another --out"
                )
            found.setdefault(explorer, []).append(kept)
    return found


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--env", default="Procgen/CoinRun-v0", help="env id of a real game")
    parser.add_argument("--world", default="CoinRun", help="name or path of a world of that game")
    parser.add_argument("--mode", default="streaming", help="reward mode of AutoExplore")
    parser.add_argument("--steps", type=int, default=100_000, help="env steps of each run")
    parser.add_argument("--num-envs", type=int, default=16, help="number of rows of each run")
    parser.add_argument("--max-steps", type=int, default=500, help="maximum length of an episode")
    parser.add_argument(
        "--entropy", type=float, default=ExploreConfig.entropy,
        help="weight of the agents' entropy bonus",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, default=3, help="number of runs of each explorer")
    parser.add_argument("--explorers", nargs="+", default=list(EXPLORERS), choices=EXPLORERS)
    parser.add_argument("--out", type=Path, help="folder of the runs [data/exploration/ENV]")
    parser.add_argument("--picture", type=Path, help="output file for an SVG of the curves")


def measure(given: Namespace) -> Measured:
    torch.set_num_threads(2)
    budget = Budget(
        env=given.env, world=given.world, mode=given.mode,
        steps=QUICK_STEPS if given.quick else given.steps,
        num_envs=given.num_envs, max_steps=given.max_steps, entropy=given.entropy,
    )  # fmt: skip
    name = given.env.rpartition("/")[2] + ("-quick" if given.quick else "")
    out = given.out or Path("data/exploration") / name
    runs = all_runs(budget, given.explorers, 1 if given.quick else given.seeds, out)
    if given.picture:
        given.picture.parent.mkdir(parents=True, exist_ok=True)
        given.picture.write_text(picture(runs, NUM_POINTS))
    return summary(runs)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    quick = f"{QUICK_STEPS} steps, one seed"
    return run_benchmark(
        "studies.exploration", measure, argv, about=__doc__, options=options, quick=quick
    )


if __name__ == "__main__":
    main()
