"""Ablate token input, TDCE and the two-stream objective, with the same data, tokenizer and time.

Run: python -m benchmarks.studies.ablation [--recipe R] [--quick] [--json FILE] [--out FOLDER]

The study compares variants of the dynamics model (`TITLES` lists them). The first variant is the
paper's plain model. Each of the next variants adds one change to the variant before it; the last
change results in our model. Another variant adds only this last change to the plain model. Two
more variants each differ from our model in one setting.

All variants share the data (plain CoinRun levels), the frozen tokenizer and the recipe. The
learning rate is constant after warm-up and the weights are averaged, so that one run can be
evaluated at any step. Variants are compared at an equal number of steps and at equal time. A
variant's time is its number of steps times its seconds per step. The seconds per step are measured
before training, with the variants alternating, so later load on the machine has no effect.

All results are stored in the output folder; the same command resumes a stopped run.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.dreams.scores import dream_clips, score
from benchmarks.report import Measured, run_benchmark
from benchmarks.training_speed import WARM_UP, Stopwatch
from genie_gym.collect.command import CollectConfig, collect
from genie_gym.evaluation.dreamer import Dreamer
from genie_gym.evaluation.windows import Windows, draw_windows
from world_models.episodes import EpisodeDataset, WindowSampler
from world_models.inference.world import WorldModel
from world_models.model.dynamics import Dynamics, DynamicsConfig
from world_models.model.losses import DynamicsLossConfig
from world_models.tokenizers.base import Tokenizer
from world_models.training.config import FitConfig
from world_models.training.fit import FitResult, fit
from world_models.training.recipes import RECIPES, DynamicsRecipe, WorldRecipe
from world_models.training.run_folder import load_run
from world_models.training.run_options import DataOptions, DynamicsOptions
from world_models.training.runs import train_dynamics, train_tokenizer
from world_models.weights import load_weights, read_tensors

LEVELS = {
    "num_levels": "4",
    "distribution_mode": "easy",
    "use_backgrounds": "False",
    "restrict_themes": "True",
}
MAX_STEPS = 160
PROMPT, STEPS_AHEAD, DELTA_STEP = 2, 10, 4
BUDGETS = ("steps", "time")
MEASURES = {
    "psnr_10": "PSNR over 10 frames",
    "changed_psnr_10": "of pixels that change",
    "delta4_psnr_genie": "delta-4, all actions random",
    "delta4_psnr_last_action": "delta-4, last action replaced",
}
TITLES = {
    "base": "base: the paper's objective, plain cross-entropy",
    "token_input": "+ token input",
    "tdce": "+ TDCE",
    "two_stream": "+ two streams",
    "two_stream_alone": "base + two streams",
    "whole_past": "ours, gradients through the whole past",
    "light_outcome": "ours, rewards and ends at weight 0.1",
}


@dataclass(frozen=True, kw_only=True)
class Size:
    """Number of episodes, steps, windows and seeds.

    Attributes:
        episodes: Number of episodes to collect.
        tokenizer_steps: Training steps of the tokenizer.
        steps: Training steps of the slowest variant; all variants are evaluated at this step.
        timed_steps: Timed steps per variant and turn.
        windows: Number of held-out windows to generate.
        seeds: Number of runs per variant.
    """

    episodes: int
    tokenizer_steps: int
    steps: int
    timed_steps: int
    windows: int
    seeds: int = 2


FULL = Size(episodes=200, tokenizer_steps=800, steps=300, timed_steps=10, windows=64)
QUICK = Size(episodes=12, tokenizer_steps=4, steps=2, timed_steps=1, windows=2)


@dataclass(frozen=True, kw_only=True)
class VariedLossConfig(DynamicsLossConfig):
    """The loss config for a dynamics model, with the loss's constants turned into options.

    Attributes:
        TDCE_WEIGHT: Weight of the token distance added to cross-entropy.
        OUTCOME_WEIGHT: Weight of the reward loss and of the termination loss.
        LEARNED_SHARE: Fraction of the layers in which gradients flow into clean frames.
    """

    TDCE_WEIGHT: float = DynamicsLossConfig.TDCE_WEIGHT  # type: ignore[misc]
    OUTCOME_WEIGHT: float = DynamicsLossConfig.OUTCOME_WEIGHT  # type: ignore[misc]
    LEARNED_SHARE: float = DynamicsLossConfig.LEARNED_SHARE  # type: ignore[misc]


class Arm(NamedTuple):
    """A variant of the recipe: a dynamics model and its loss."""

    model: DynamicsConfig
    loss: VariedLossConfig


def arms(recipe: DynamicsRecipe) -> dict[str, Arm]:
    """Return all variants of a recipe's model and loss, by name."""
    common = {f.name: getattr(recipe.loss, f.name) for f in fields(recipe.loss)}
    loss = VariedLossConfig(**common)
    plain = replace(loss, TDCE_WEIGHT=0.0)
    base = replace(recipe.model, objective="paper", token_input=False)
    token_input = replace(base, token_input=True)
    two_stream = replace(token_input, objective="two_stream")
    return {
        "base": Arm(base, plain),
        "token_input": Arm(token_input, plain),
        "tdce": Arm(token_input, loss),
        "two_stream": Arm(two_stream, loss),
        "two_stream_alone": Arm(replace(base, objective="two_stream"), plain),
        "whole_past": Arm(two_stream, replace(loss, LEARNED_SHARE=1.0)),
        "light_outcome": Arm(two_stream, replace(loss, OUTCOME_WEIGHT=0.1)),
    }


class Ablation:
    """The comparison, stored in a folder.

    Args:
        recipe: Recipe to vary.
        size: Number of episodes, steps, windows and seeds.
        out: Output folder.
    """

    def __init__(self, recipe: WorldRecipe, size: Size, out: Path):
        self.recipe, self.size, self.out = recipe, size, out
        self.arms = arms(recipe.dynamics)

    @cached_property
    def data(self) -> Path:
        """The folder that contains the episodes; the split "val" is held out."""
        path = self.out / "data"
        missing = collect(
            CollectConfig(
                env="Procgen/CoinRun-v0",
                out=path,
                policy="sticky",
                episodes=self.size.episodes,
                max_steps=MAX_STEPS,
                env_kwargs=LEVELS,
            )
        )
        _go_on_if(not missing)
        return path

    @cached_property
    def tokenizer_run(self) -> Path:
        """The run folder of the tokenizer that all variants share."""
        out, steps = self.out / "tokenizer", self.size.tokenizer_steps
        recipe = self.recipe.tokenizer
        recipe = replace(recipe, fit=replace(recipe.fit, steps=steps, save_every=steps))
        _finish(train_tokenizer(recipe, DataOptions(data=self.data, out=out)))
        return out

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The trained tokenizer."""
        tokenizer = load_run(self.tokenizer_run, "tokenizer")
        assert isinstance(tokenizer, Tokenizer)
        return tokenizer

    @cached_property
    def windows(self) -> Windows:
        """Held-out windows, the same for all variants."""
        held_out = EpisodeDataset(self.data).split("val")
        return draw_windows(
            held_out, num=self.size.windows, prompt=PROMPT, steps=STEPS_AHEAD, seed=0
        )

    @cached_property
    def seconds_per_step(self) -> dict[str, float]:
        """The seconds per step of each variant: the median of three turns."""
        file = self.out / "seconds_per_step.json"
        if not file.exists():
            turns = [
                {name: self._time_step(arm) for name, arm in self.arms.items()} for _ in range(3)
            ]
            medians = {name: statistics.median(turn[name] for turn in turns) for name in self.arms}
            file.write_text(json.dumps(medians) + "\n")
        return json.loads(file.read_text())

    def steps(self, arm: str, budget: str) -> int:
        """Return the step at which a variant is evaluated.

        The budget "steps" is the same number of steps for all variants, "time" the same time.
        """
        seconds = self.seconds_per_step
        share = max(seconds.values()) / seconds[arm] if budget == "time" else 1
        return round(self.size.steps * share)

    def scores(self, arm: str, seed: int, budget: str) -> dict[str, float]:
        """Train a variant for a budget, "steps" or "time", and evaluate it.

        Call it for the smaller budget first.
        """
        run, step = self.out / f"{arm}-{seed}", self.steps(arm, budget)
        file = run / f"scores-{step:08}.json"
        if not file.exists():
            self._train(arm, seed, run, step)
            dynamics = Dynamics(self.arms[arm].model, self.tokenizer.space)
            weights = run / "checkpoints" / f"step-{step:08}" / "average.safetensors"
            load_weights(dynamics, read_tensors(weights), weights)
            file.write_text(json.dumps(self._evaluate(dynamics.eval())) + "\n")
        return json.loads(file.read_text())

    def figures(self) -> dict[str, float]:
        """Return all results by name, as stored in the result file."""
        found: dict[str, float] = {"threads": torch.get_num_threads()}
        for arm in self.arms:
            found[f"{arm}_seconds_per_step"] = self.seconds_per_step[arm]
            for budget in BUDGETS:
                found[f"{arm}_{budget}"] = self.steps(arm, budget)
        for seed in range(self.size.seeds):
            for arm in self.arms:
                for budget in BUDGETS:
                    scores = self.scores(arm, seed, budget)
                    found |= {f"{arm}_{budget}_{m}_seed{seed}": scores[m] for m in MEASURES}
                    found |= {k: v for k, v in scores.items() if k not in MEASURES}
        return found

    def _fit(self, **changes: Any) -> FitConfig:
        """Return the recipe's fit config with a constant learning rate."""
        base = self.recipe.dynamics.fit
        return replace(base, min_learning_rate=base.learning_rate, **changes)

    def _train(self, arm: str, seed: int, out: Path, steps: int) -> None:
        model, loss = self.arms[arm]
        settings = self._fit(steps=steps, save_every=steps, seed=seed)
        recipe = replace(self.recipe.dynamics, model=model, loss=loss, fit=settings)
        options = DynamicsOptions(data=self.data, out=out, tokenizer=str(self.tokenizer_run))
        _finish(train_dynamics(recipe, options))

    def _evaluate(self, dynamics: Dynamics) -> dict[str, float]:
        dreamer = Dreamer(WorldModel(self.tokenizer, dynamics).eval(), batch_size=32)
        clips, _ = dream_clips(dreamer, self.windows, dynamics.config.num_actions, seed=0)
        found = score(clips)
        figures = {}
        for name in ("psnr", "changed_psnr"):
            figures[f"{name}_10"] = found.mean(name)
            for bound in ("copy", "ceiling"):
                figures[f"{name}_10_{bound}"] = found.mean(f"{name}_{bound}")
        for kind in ("genie", "last_action"):
            at = found.curve(f"delta_psnr_{kind}")[DELTA_STEP - 1]
            figures[f"delta{DELTA_STEP}_psnr_{kind}"] = at
        return figures

    def _time_step(self, arm: Arm) -> float:
        settings = self._fit(steps=WARM_UP + self.size.timed_steps + 1, save_every=10**6)
        stopwatch = Stopwatch(self._batch(settings.batch_size))
        model = Dynamics(arm.model, self.tokenizer.space, self.tokenizer.codes())
        loss = partial(Dynamics.loss, config=arm.loss)
        with tempfile.TemporaryDirectory() as out:
            fit(model, stopwatch, settings, Path(out), loss=loss)
        return statistics.median(stopwatch.seconds())

    def _batch(self, size: int) -> dict[str, torch.Tensor]:
        episodes, length = EpisodeDataset(self.data).split("train"), self.recipe.dynamics.frames
        sampler = WindowSampler(episodes.num_frames, length=length, batch_size=size)
        batch = episodes.batch(sampler.batch(0), length)
        tensors = {name: torch.from_numpy(values) for name, values in batch.items()}
        return tensors | {"tokens": self.tokenizer.encode(tensors.pop("frames"))}


def table(figures: Mapping[str, float]) -> list[dict[str, str]]:
    """Return a table row per budget and variant, with means over seeds +- half the range."""
    rows = []
    for budget in BUDGETS:
        for arm, title in TITLES.items():
            row = {
                "equal": budget,
                "arm": title,
                "steps": f"{figures[f'{arm}_{budget}']:.0f}",
            }
            for measure, name in MEASURES.items():
                prefix = f"{arm}_{budget}_{measure}_seed"
                values = [value for key, value in figures.items() if key.startswith(prefix)]
                spread = (max(values) - min(values)) / 2
                row[name] = f"{statistics.mean(values):.2f} ± {spread:.2f}"
            rows.append(row)
    for bound, title in (("copy", "copying the last real frame"), ("ceiling", "the tokenizer")):
        row = {"equal": "", "arm": title, "steps": ""}
        for measure in ("psnr_10", "changed_psnr_10"):
            row[MEASURES[measure]] = f"{figures[f'{measure}_{bound}']:.2f}"
        rows.append(row)
    return rows


def _finish(result: FitResult) -> None:
    _go_on_if(result.finished)


def _go_on_if(done: bool) -> None:
    if not done:
        raise SystemExit("stopped; run the same command to resume")


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--recipe", default="coinrun-tiny", choices=RECIPES)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/ablation"), help="folder for the runs"
    )


def measure(given: Namespace) -> Measured:
    recipe = RECIPES[given.recipe]()
    if given.quick:
        with tempfile.TemporaryDirectory() as out:
            figures = Ablation(recipe, QUICK, Path(out)).figures()
    else:
        figures = Ablation(recipe, FULL, given.out).figures()
    return figures, table(figures)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    quick = "the same with very few training steps"
    return run_benchmark(
        "studies.ablation", measure, argv, about=__doc__, options=options, quick=quick
    )


if __name__ == "__main__":
    main()
