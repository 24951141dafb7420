"""Compare pretraining on many games with training from scratch, on new games.

Run: python -m benchmarks.studies.many_games --json F

A base world model is trained on random play in all playable games except the tested ones. For each
tested game, two world models are trained on the same few episodes for the same number of steps: one
is fine-tuned from the base model ("pretrained"), the other is trained from scratch ("scratch").
These two world models are evaluated on held-out episodes. The same command resumes a stopped run.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal

from agents.loop.evaluate import WorldEvaluationConfig, evaluate_world
from benchmarks.report import report
from genie_gym.build.stages import Manifest, Stage, run_stages
from genie_gym.collect.command import CollectConfig, collect
from genie_gym.retroact import catalogue
from world_models.command_line import parse
from world_models.training.config import FitConfig
from world_models.training.package import BundleOptions, build_bundle
from world_models.training.recipes import RECIPES, WorldRecipe
from world_models.training.run_options import DataOptions, DynamicsOptions
from world_models.training.runs import train_dynamics, train_tokenizer

__all__ = ["Comparison", "Sizes", "main"]

Arm = Literal["pretrained", "scratch"]
SCORES = ("psnr", "changed_psnr", "delta_psnr", "delta_changed_psnr")
EVALUATED = (*SCORES, "psnr_copy", "changed_psnr_copy", "changed_psnr_ceiling")
TEST_SEED = 900_000


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Number of episodes and training steps, and the evaluation settings.

    Attributes:
        pool_episodes: Training episodes per game for the base world model.
        episodes: Training episodes for each tested game.
        test_episodes: Held-out episodes for each tested game.
        max_steps: Maximum length of an episode.
        pretraining: Training steps of the base model's tokenizer and dynamics.
        tuning: Training steps of tokenizer and dynamics on a tested game, for each variant.
        evaluation: Evaluation settings.
    """

    pool_episodes: int = 2
    episodes: int = 12
    test_episodes: int = 8
    max_steps: int = 250
    pretraining: tuple[int, int] = (300, 800)
    tuning: tuple[int, int] = (100, 400)
    evaluation: WorldEvaluationConfig = field(
        default_factory=lambda: WorldEvaluationConfig(windows=96, prompt=4)
    )


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Compares fine-tuning a world model of many games with training from scratch on a new game.

    Attributes:
        out: Output folder.
        games: The tested games.
        pool: Games to train the base model on; None uses all playable games except the tested ones.
        arms: Variants to train: pretrained (fine-tunes the base model) and scratch. Separate
            processes can train one variant each with the same `out`; the command without this
            option then reports both variants.
        seeds: Training seeds of each variant.
        sizes: Number of episodes, steps and windows.
        json: Output file for the result; None writes no file.
    """

    out: Path = Path("outputs/many_games")
    games: tuple[str, ...] = ("Hero-Atari2600", "Pong-Atari2600")
    pool: tuple[str, ...] | None = None
    arms: tuple[Arm, ...] = ("pretrained", "scratch")
    seeds: tuple[int, ...] = (0, 1)
    sizes: Sizes = field(default_factory=Sizes)
    json: Path | None = None

    def __post_init__(self) -> None:
        if not self.pool_games():
            raise ValueError(
                "--pool needs an untested game on the platform of a tested game: add one"
            )

    def pool_games(self) -> list[str]:
        """Return the base model's games: the untested games on the platforms of tested games."""
        names = self.pool
        if names is None:
            names = tuple(game.name for game in catalogue.playable_games())
        platforms = {_platform(game) for game in self.games}
        return [name for name in names if name not in self.games and _platform(name) in platforms]

    def stages(self) -> list[Stage]:
        """Return all stages in order of dependency."""
        stages = self._of_first_world() if "pretrained" in self.arms else []
        for game in self.games:
            stages += self._of_game(game)
        return stages

    def scores(self) -> dict[tuple[str, str], list[dict[str, float]]]:
        """Return the finished evaluations by game and variant, one per seed."""
        return {
            (game, arm): [
                json.loads(file.read_text())
                for seed in self.seeds
                if (file := self._scores(game, arm, seed)).exists()
            ]
            for game in self.games
            for arm in self.arms
        }

    # The parts -----------------------------------------------------------------------------

    def _of_first_world(self) -> list[Stage]:
        pool, first = self.out / "data" / "pool", self.out / "first"
        return [
            Stage(name="pool", needs=(), run=lambda: self._play_pool(pool)),
            Stage(
                name="first-world",
                needs=("pool",),
                run=lambda: self._learn(pool, first, None, self.sizes.pretraining, seed=0),
            ),
        ]

    def _of_game(self, game: str) -> list[Stage]:
        data, test = self.out / "data" / game, self.out / "data" / f"{game}-test"
        sizes = self.sizes
        stages = [
            Stage(
                name=f"{game}-data",
                needs=(),
                run=lambda: (
                    self._play(game, data, sizes.episodes, 0)
                    and self._play(game, test, sizes.test_episodes, TEST_SEED)
                ),
            )
        ]
        for arm in self.arms:
            for seed in self.seeds:
                folder = self.out / game / f"{arm}-{seed}"
                base = self.out / "first" / "world" if arm == "pretrained" else None
                stages.append(
                    Stage(
                        name=f"{game}-{arm}-{seed}",
                        needs=(f"{game}-data", *(() if base is None else ("first-world",))),
                        run=lambda folder=folder, base=base, seed=seed, arm=arm: (  # type: ignore[misc]
                            self._learn(data, folder, base, sizes.tuning, seed=seed)
                            and self._evaluate(folder / "world", test, game, arm, seed)
                        ),
                    )
                )
        return stages

    def _play_pool(self, out: Path) -> bool:
        return all(self._play(game, out, self.sizes.pool_episodes, 0) for game in self.pool_games())

    def _play(self, game: str, out: Path, episodes: int, seed: int) -> bool:
        return not collect(
            CollectConfig(
                env=f"RetroAct/{game}-v0",
                out=out,
                policy="sticky",
                episodes=episodes,
                max_steps=self.sizes.max_steps,
                seed=seed,
            )
        )

    def _learn(
        self, data: Path, out: Path, base: Path | None, steps: tuple[int, int], *, seed: int
    ) -> bool:
        """Train a world model on a whole dataset: fine-tune `base`, or train from scratch."""
        recipe = _with_steps(RECIPES["atari-many"](), steps, seed)
        start = None if base is None else str(base)
        tokenizer, dynamics = out / "tokenizer", out / "dynamics"
        options = DataOptions(data=data, out=tokenizer, from_world=start)
        if not train_tokenizer(recipe.tokenizer, options).finished:
            return False
        options = DynamicsOptions(
            data=data, out=dynamics, from_world=start, tokenizer=str(tokenizer)
        )
        if not train_dynamics(recipe.dynamics, options).finished:
            return False
        env_id = options.episodes().entries[0].info.env_id  # one of several for the base model
        build_bundle(
            BundleOptions(
                out=out / "world",
                data=data,
                tokenizer=tokenizer,
                dynamics=dynamics,
                env_id=env_id,
                starts=4,
                replace=True,
            )
        )
        return True

    def _evaluate(self, world: Path, test: Path, game: str, arm: str, seed: int) -> bool:
        file = self._scores(game, arm, seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(evaluate_world(world, test, self.sizes.evaluation)))
        return True

    def _scores(self, game: str, arm: str, seed: int) -> Path:
        return self.out / "scores" / f"{game}-{arm}-{seed}.json"


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    comparison = parse(Comparison, argv, description=__doc__)
    manifest = Manifest(comparison.out / "manifest.jsonl")
    if not run_stages(comparison.stages(), manifest):
        return 130
    scores = comparison.scores()
    rows = [_row(game, arm, found) for (game, arm), found in scores.items()]
    report("studies.many_games", _figures(scores), rows, comparison.json)
    return 0


def _row(game: str, arm: str, found: list[dict[str, float]]) -> dict[str, Any]:
    row: dict[str, Any] = {"game": game, "arm": arm}
    for name in SCORES:
        values = [scores[name] for scores in found]
        row[name] = f"{mean(values):.2f} +- {stdev(values) if len(values) > 1 else 0:.2f}"
    return row | {"copying, changed": f"{found[0]['changed_psnr_copy']:.2f}"}


def _figures(scores: dict[tuple[str, str], list[dict[str, float]]]) -> dict[str, float]:
    figures = {}
    for (game, arm), found in scores.items():
        title = game.partition("-")[0].lower()
        for name in EVALUATED:
            values = [score[name] for score in found]
            figures[f"{title}_{arm}_{name}"] = mean(values)
            if name in SCORES and len(values) > 1:
                figures[f"{title}_{arm}_{name}_sd"] = stdev(values)
    return figures


def _with_steps(recipe: WorldRecipe, steps: tuple[int, int], seed: int) -> WorldRecipe:
    def fit(base: FitConfig, number: int) -> FitConfig:
        return replace(base, steps=number, seed=seed, save_every=min(base.save_every, number))

    return replace(
        recipe,
        tokenizer=replace(recipe.tokenizer, fit=fit(recipe.tokenizer.fit, steps[0])),
        dynamics=replace(recipe.dynamics, fit=fit(recipe.dynamics.fit, steps[1])),
    )


def _platform(game: str) -> str:
    return game.rpartition("-")[2]


if __name__ == "__main__":
    sys.exit(main())
