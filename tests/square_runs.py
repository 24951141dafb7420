"""Runs on the moving square: recipes that take seconds, and the world that they make."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from tests.square_episodes import write_episodes
from world_models import presets
from world_models.training.config import FitConfig
from world_models.training.package import BundleOptions, build_bundle
from world_models.training.recipes import DynamicsRecipe, TokenizerRecipe
from world_models.training.run_options import DataOptions, DynamicsOptions
from world_models.training.runs import train_dynamics, train_tokenizer

FIT = FitConfig(steps=6, batch_size=4, warmup_steps=2, log_every=1, save_every=3, eval_batches=2)
TINY = presets.tiny()
TOKENIZER = TokenizerRecipe(model=TINY.tokenizer, fit=FIT, frames=8)
DYNAMICS = DynamicsRecipe(model=TINY.dynamics, fit=FIT, frames=8, token_stride=4)


@dataclass(frozen=True)
class Made:
    data: Path
    tokenizer: Path
    dynamics: Path
    world: Path


def make_world(root: Path) -> Made:
    """A world made by the three commands."""
    data = write_episodes(root / "data")
    train_tokenizer(TOKENIZER, DataOptions(data=data, out=root / "tokenizer"))
    options = DynamicsOptions(data=data, out=root / "dynamics", tokenizer=str(root / "tokenizer"))
    train_dynamics(DYNAMICS, options)
    world = build_bundle(
        BundleOptions(
            out=root / "Square",
            data=data,
            tokenizer=root / "tokenizer",
            dynamics=root / "dynamics",
            storage="float32",
        )
    )
    return Made(data, root / "tokenizer", root / "dynamics", world)


def log(run: Path, group: str) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["group"] == group]


def changing() -> presets.WorldConfig:
    """A world whose tokens say what changes."""
    coder = replace(TINY.tokenizer.transformer, temporal=False)
    return replace(
        TINY,
        tokenizer=replace(TINY.tokenizer, transformer=coder, num_codes=256, context=True),
        dynamics=replace(TINY.dynamics, num_codes=256, frame_patch=TINY.tokenizer.patch),
    )
