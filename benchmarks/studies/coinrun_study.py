"""Reproduce the published CoinRun study: two kinds of training data, two models, two test sets.

The world models are GenieRedux-G, which takes true actions, and GenieRedux, which takes latent
actions. Each model is trained on random play (base), then fine-tuned on episodes of a trained agent
(TA). The test sets are held-out random play (Basic) and held-out episodes of the agent (Diverse).

Run: genie-gym bench coinrun-study --recipe tiny --out runs/study

The same command resumes a stopped study.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from agents.train import train_agent
from benchmarks.dreams.measure import measure
from benchmarks.report import report, say
from benchmarks.studies.coinrun_recipes import RECIPES, StudyRecipe, scaled
from benchmarks.studies.published import PUBLISHED
from genie_gym.collect.command import CollectConfig, collect
from genie_gym.envs.coinrun import paint_over_velocity_map
from genie_gym.envs.loaded_worlds import open_world
from genie_gym.evaluation.dreamer import Dreamer
from genie_gym.evaluation.metrics import frame_psnr, frame_ssim
from genie_gym.evaluation.unseen import SEED
from genie_gym.evaluation.windows import Windows
from world_models.command_line import parse
from world_models.episodes import EpisodeDataset
from world_models.files import write_json
from world_models.pixels import to_float, to_uint8
from world_models.training.fit import FitResult
from world_models.training.package import BundleOptions, build_bundle
from world_models.training.recipes import DynamicsRecipe
from world_models.training.run_options import DataOptions, DynamicsOptions
from world_models.training.runs import train_dynamics, train_latent_action, train_tokenizer

__all__ = ["Study", "StudyConfig", "main"]

ENV = "Procgen/CoinRun-v0"
LEVELS = {"velocity_map": "true"}  # hard levels; the agent needs to see its velocity
WORLDS = ("GenieRedux-G", "GenieRedux", "GenieRedux-G-TA", "GenieRedux-TA")
SETS = ("Basic", "Diverse")


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """Reproduces the CoinRun study; it can be stopped and resumed at any time.

    Attributes:
        recipe: tiny (an hour on two cores) or paper (complete, for a cluster).
        out: Output folder; the same command resumes from it.
        device: Device on which world models are evaluated.
        json: Output file for the result; None writes no file.
    """

    recipe: Literal["tiny", "paper"] = "tiny"
    out: Path = Path("runs/coinrun-study")
    device: str = "auto"
    json: Path | None = None


class Study:
    """The steps of the study; each is skipped if its result is in the folder.

    Args:
        recipe: Training settings and data sizes.
        out: Output folder.
        device: Device on which world models are evaluated.
    """

    def __init__(self, recipe: StudyRecipe, out: Path, device: str = "auto"):
        self.recipe, self.out, self.device = recipe, out, device

    def run(self) -> dict[str, dict[str, float]]:
        """Run all steps; return the results of each world model on each test set."""
        random = self._play("random", "random", self.recipe.random_episodes, seed=0)
        self._base(random)
        agent = self._agent()
        tuning = self._play("agent", str(agent), self.recipe.agent_episodes, seed=0)
        self._tuned(tuning)
        count = self.recipe.test_episodes
        tests = {
            "Basic": self._play("test-basic", "random", count, seed=SEED),
            "Diverse": self._play("test-diverse", str(agent), count, seed=SEED),
        }
        return {
            f"{world}, {name}": self._measured(world, name, data)
            for name, data in tests.items()
            for world in WORLDS
        }

    def _play(self, name: str, policy: str, episodes: int, seed: int) -> Path:
        out = self.out / "data" / name
        config = CollectConfig(
            env=ENV,
            out=out,
            policy=policy,
            episodes=episodes,
            max_steps=self.recipe.max_steps,
            seed=seed,
            env_kwargs=LEVELS,
        )
        if collect(config):
            raise KeyboardInterrupt
        return out

    def _agent(self) -> Path:
        folder = self.out / "agent"
        if not (folder / "policy.json").is_file():
            say("training the agent")
            train_agent(replace(self.recipe.agent, out=folder))
        return folder

    def _base(self, data: Path) -> None:
        """Train both world models on random play."""
        recipe, runs = self.recipe.world, self.out / "runs"
        tokenizer, latent = runs / "tokenizer", runs / "latent-action"
        _finished(train_tokenizer(recipe.tokenizer, DataOptions(data=data, out=tokenizer)))
        _finished(train_latent_action(recipe.latent_action, DataOptions(data=data, out=latent)))
        for name in WORLDS[:2]:
            dynamics = runs / name
            options = DynamicsOptions(
                data=data,
                out=dynamics,
                tokenizer=str(tokenizer),
                latent_action=str(latent) if name == "GenieRedux" else None,
            )
            _finished(train_dynamics(self._dynamics(name), options))
            self._bundle(name, data, tokenizer, dynamics, latent)

    def _tuned(self, data: Path) -> None:
        """Fine-tune the base world models on the agent's episodes.

        The tokens must stay fixed, so only the tokenizer's decoder is fine-tuned.
        """
        runs, short = self.out / "runs", scaled(self.recipe.world, self.recipe.tuning)
        latent = runs / "latent-action-TA"
        for base, name in zip(WORLDS[:2], WORLDS[2:], strict=True):
            world = str(self.out / "worlds" / base)
            tokenizer, dynamics = runs / f"tokenizer-{name}", runs / name
            options = DataOptions(data=data, out=tokenizer, from_world=world)
            _finished(train_tokenizer(short.tokenizer, options))
            if base == "GenieRedux":
                options = DataOptions(data=data, out=latent, from_world=world)
                _finished(train_latent_action(short.latent_action, options))
            options = DynamicsOptions(
                data=data,
                out=dynamics,
                from_world=world,
                tokenizer=str(tokenizer),
                latent_action=str(latent) if base == "GenieRedux" else None,
            )
            _finished(train_dynamics(short.dynamics, options))
            self._bundle(name, data, tokenizer, dynamics, latent)

    def _dynamics(self, name: str) -> DynamicsRecipe:
        recipe = self.recipe.world.dynamics
        if name == "GenieRedux-G":
            return recipe
        actions = self.recipe.world.latent_action.model.num_actions
        model = replace(recipe.model, action_input="add", num_actions=actions)
        return replace(recipe, model=model)

    def _bundle(self, name: str, data: Path, tokenizer: Path, dynamics: Path, latent: Path) -> None:
        out = self.out / "worlds" / name
        if not out.is_dir():
            named = latent if name in ("GenieRedux", "GenieRedux-TA") else None
            build_bundle(
                BundleOptions(
                    out=out, data=data, tokenizer=tokenizer, dynamics=dynamics, latent_action=named
                )
            )

    def _measured(self, world: str, name: str, data: Path) -> dict[str, float]:
        kept = self.out / "results" / f"{world}-{name}.json"
        if not kept.exists():
            say(f"measuring {world} on {name}")
            write_json(kept, self._measure(world, data))
        return json.loads(kept.read_text())

    def _measure(self, world: str, data: Path) -> dict[str, float]:
        loaded = open_world(self.out / "worlds" / world, self.device, "float32")
        measured = measure(
            Dreamer(loaded.model, self.recipe.mode, loaded.device),
            EpisodeDataset(data),
            loaded.actions,
            self.recipe.amounts,
            clean=_painted,
            say=say,
        )
        figures = measured.figures()
        if loaded.model.latent_action is not None:
            figures |= _latent_scores(loaded.model.latent_action, measured.windows)
        return figures


@torch.no_grad()
def _latent_scores(model: torch.nn.Module, windows: Windows) -> dict[str, float]:
    """Score the latent action model's prediction of each frame from the previous real frame."""
    device = next(model.parameters()).device
    parts = windows.frames.split(16)
    predicted = torch.cat([to_uint8(model(to_float(part.to(device)))[0]).cpu() for part in parts])
    pair = (_painted(predicted), _painted(windows.frames[:, 1:]))
    return {
        "psnr_lam": float(frame_psnr(*pair).mean()),
        "ssim_lam": float(frame_ssim(*pair).mean()),
    }


def rows(results: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """Return table rows that show each published number beside our number."""
    table = []
    for (name, model), published in PUBLISHED.items():
        tuned = model.endswith("-TA")
        kind = model.removesuffix("-TA")
        world = model if model in WORLDS else f"GenieRedux{'-TA' * tuned}"
        suffix = {"Tokenizer": "_ceiling", "LAM": "_lam"}.get(kind, "")
        ours = results[f"{world}, {name}"]
        row = {"set": name, "model": model, "PSNR": ours[f"psnr{suffix}"]}
        row |= {"published": published.psnr, "SSIM": ours[f"ssim{suffix}"]}
        row |= {"published SSIM": published.ssim}
        if not suffix:
            row |= {"copying": ours["psnr_copy"], "delta-4": ours["delta4_psnr_last_action"]}
            row |= {"published delta-4": published.delta}
        table.append(row)
    return table


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    config = parse(StudyConfig, argv)
    results = Study(RECIPES[config.recipe](), config.out, config.device).run()
    figures = {
        f"{key.replace(', ', '_')}_{name}": values[name]
        for key, values in results.items()
        for name in ("psnr", "psnr_copy", "psnr_ceiling", "ssim", "delta4_psnr_last_action")
    }
    report("studies.coinrun_study", figures, rows(results), config.json)
    return 0


def _finished(result: FitResult) -> None:
    if not result.finished:
        raise KeyboardInterrupt


def _painted(frames: Tensor) -> Tensor:
    return torch.from_numpy(paint_over_velocity_map(frames.numpy()))


if __name__ == "__main__":
    sys.exit(main())
