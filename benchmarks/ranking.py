"""Check whether a dream ranks policies as the real game does, from the same starts.

Policies of many kinds are evaluated in the dream and in the game: random play, repeating one
action, alternating between two actions, a scripted expert if there is one, and trained agents. Each
decision question asks which of five action sequences has the largest return. Dreams give expected
rewards, also in worlds that round them.

Run: python -m benchmarks.ranking [--worlds W ...] [--agents DIR ...] [--quick] [--json FILE]
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from agents.returns import make_real
from benchmarks.matched import REAL_ROWS, Returns, find_starts, played_dreams, played_real
from benchmarks.players import Player, players
from benchmarks.report import Measured, run_benchmark, say
from benchmarks.statistics import mmrv, pearson, spearman, value_gap
from genie_gym.collect.policy_spec import make_policy
from genie_gym.envs.genie import GenieVectorEnv
from genie_gym.envs.loaded_worlds import open_world
from genie_gym.envs.reward_values import payable
from world_models.extras import require

WORLDS = ("CrazyClimber", "Freeway", "Pong")
OPTIONS = 5  # sequences of actions per decision question
REPETITIONS = 1_000  # bootstrap samples of the starts
NO_LIMIT = 1_000_000
METRICS = {"spearman": spearman, "pearson": pearson, "mmrv": mmrv, "value_gap": value_gap}


def intervals(
    metric: Callable[[Returns, Returns], float], dream: Returns, real: Returns
) -> tuple[float, float, float]:
    """Return a metric of the mean returns, and its 95% bootstrap interval over the starts.

    Args:
        metric: Function of all policies' returns in the dream and in the real game.
        dream: Returns in the dream, ``(policies, S)``.
        real: Returns in the real game, ``(policies, S)``.
    """
    rng = np.random.default_rng(0)
    draws = rng.integers(dream.shape[1], size=(REPETITIONS, dream.shape[1]))
    found = [metric(dream[:, draw].mean(1), real[:, draw].mean(1)) for draw in draws]
    low, high = np.quantile(found, (0.025, 0.975))
    return metric(dream.mean(1), real.mean(1)), float(low), float(high)


def decisions(dream: Returns, real: Returns) -> tuple[float, int]:
    """Return how often the dream picks the best of five sequences, and the number of questions.

    Questions in which all five sequences have the same return are omitted.

    Args:
        dream: Returns in the dream, ``(sequences, S)``.
        real: Returns in the real game, ``(sequences, S)``.
    """
    asked = [(x[i : i + OPTIONS], y[i : i + OPTIONS])
             for x, y in zip(dream.T, real.T, strict=True)
             for i in range(0, len(x), OPTIONS)]  # fmt: skip
    right = [y[x.argmax()] == y.max() for x, y in asked if y.max() > y.min()]
    return (float(np.mean(right)) if right else float("nan")), len(right)


def rank(world: str, agents: list[Path], num_starts: int, quick: bool) -> Measured:
    """Rank the policies for one world model; return the results and the rows of the table."""
    num, horizons, questions = (2, (10, 20), 1) if quick else (num_starts, (20, 50, 100, 200), 5)
    name, steps = Path(world).name, horizons[-1]
    real_env = make_real(world, REAL_ROWS, NO_LIMIT)
    # If the world rounds rewards, most short dreams are worth 0, and no sequence is the best one.
    dream_env = GenieVectorEnv(world, num, reward="expected", autoreset_mode="Disabled")
    starts = find_starts(real_env, num, seed=0)
    chosen = players(world, agents)
    dream, real = [], []
    for number, player in enumerate(chosen):
        seed = 1_000 * number
        real.append(played_real(real_env, starts, player, seed, steps).rewards)
        dream.append(played_dreams(dream_env, starts, [player], seed, steps)[0].rewards)
        say(f"{name}: {player.name}: {real[-1].sum():.4g} real, {dream[-1].sum():.4g} dreamed")
    dreamed, earned = np.stack(dream), np.stack(real)  # (policies, steps, S)
    if rewards := open_world(world).model.rewards:
        dreamed = payable(dreamed, rewards)  # what this world pays by default
    inside = np.array([player.inside for player in chosen])
    figures: dict[str, float] = {}
    key = name.lower()
    for title, metric in METRICS.items():
        for ending, which in (("", inside | True), ("_inside", inside), ("_outside", ~inside)):
            if not which.any():
                continue
            found = intervals(metric, dreamed[which].sum(1), earned[which].sum(1))
            for end, value in zip(("", "_low", "_high"), found, strict=True):
                figures[f"{title}_{key}{ending}{end}"] = value
    for horizon in horizons:
        mean = dreamed[:, :horizon].sum(1).mean(1), earned[:, :horizon].sum(1).mean(1)
        figures[f"spearman_{key}_{horizon}"] = spearman(*mean)
    sequence = Player(
        name="sequence",
        inside=True,
        make=lambda rows, steps: make_policy(
            "mixed", open_world(world).actions, num_envs=rows, max_steps=steps
        ),
    )
    seeds = [10**6 + 1_000 * number for number in range(OPTIONS * questions)]
    length = min(50, steps)
    ours = [played_dreams(dream_env, starts, [sequence], s, length)[0].returns for s in seeds]
    theirs = [played_real(real_env, starts, sequence, s, length).returns for s in seeds]
    share, asked = decisions(np.stack(ours), np.stack(theirs))
    figures |= {f"decisions_{key}": share, f"decisions_{key}_asked": asked} if asked else {}
    real_env.close()
    dream_env.close()
    rows = [
        {
            "game": name,
            "policy": player.name,
            "training data": "inside" if player.inside else "outside",
            "real return": float(r.sum(0).mean()),
            "dreamed return": float(d.sum(0).mean()),
        }
        for player, r, d in zip(chosen, earned, dreamed, strict=True)
    ]
    return figures, rows


def picture(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the returns of all policies, one panel per game."""
    require("matplotlib", extra="bench", what="the scatter plot needs matplotlib")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    games = list(dict.fromkeys(row["game"] for row in rows))
    figure, axes = pyplot.subplots(1, len(games), figsize=(4 * len(games), 4), squeeze=False)
    for axis, game in zip(axes[0], games, strict=True):
        for where, color in (("inside", "tab:blue"), ("outside", "tab:orange")):
            mine = [row for row in rows if row["game"] == game and row["training data"] == where]
            x, y = ([row[f"{kind} return"] for row in mine] for kind in ("real", "dreamed"))
            axis.scatter(x, y, color=color, label=f"{where} the training data")
        limits = (*axis.get_xlim(), *axis.get_ylim())
        axis.plot([min(limits), max(limits)], [min(limits), max(limits)], color="grey", lw=0.8)
        axis.set(title=game, xlabel="real return", ylabel="dreamed return")
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def measure(given: Namespace) -> Measured:
    """Rank policies for each world model.

    Returns:
        The results, and a table row per policy. The results for each game are:

        * ``spearman``, ``pearson``, ``mmrv`` (mean maximum rank violation) and ``value_gap``, which
          compare all policies. With ``_inside``, they compare only the policies whose episodes the
          world model was trained on; with ``_outside``, only the other policies. ``_low`` and
          ``_high`` bound the 95% interval over the starts. Dreamed returns are sums of the rewards
          that the world pays by default.
        * ``decisions``, the fraction of decision questions that the dream answers correctly, by
          expected rewards; the chance level is 0.2, and higher if several sequences share the best
          real return.
    """
    figures: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    if given.starts < 1:
        raise ValueError(f"--starts must be at least 1, got {given.starts}")
    names = [Path(world).name for world in given.worlds]
    if len(names) > 1 and (lost := [p for p in given.agents if not set(names) & set(p.parts)]):
        raise ValueError(
            f"unknown world for the agent {lost[0]}: with several worlds, an agent's folder must "
            f"be inside a folder with the name of the agent's world, one of {', '.join(names)}"
        )
    for world, name in zip(given.worlds, names, strict=True):
        agents = [path for path in given.agents if len(names) == 1 or name in path.parts]
        some, more = rank(world, agents, given.starts, given.quick)
        figures |= some
        rows += map(dict, more)
    if given.picture is not None:
        picture(rows, given.picture)
    return figures, rows


def options(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--worlds", nargs="+", default=WORLDS, help="names or paths of worlds")
    parser.add_argument(
        "--agents", nargs="*", type=Path, default=[],
        help="folders of saved agents; with several worlds, inside a folder of the world's name",
    )  # fmt: skip
    parser.add_argument(
        "--starts", type=int, default=8,
        help="number of states to start from; use more for a game with few rewards",
    )  # fmt: skip
    parser.add_argument("--picture", type=Path, help="draw a scatter plot into this file")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return run_benchmark("ranking", measure, argv, about=__doc__, options=options)


if __name__ == "__main__":
    main()
