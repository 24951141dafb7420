"""Runs on the moving square: recipes that take seconds, and the world that they make."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.square_episodes import write_episodes
from world_models import presets
from world_models.model.losses import DynamicsLossConfig
from world_models.tokenizers.motion.residual_vq import ResidualVQConfig
from world_models.training.config import FitConfig
from world_models.training.package import BundleOptions, build_bundle
from world_models.training.recipes import SPRITES, DynamicsRecipe, TokenizerRecipe
from world_models.training.run_options import DataOptions, DynamicsOptions
from world_models.training.runs import train_dynamics, train_tokenizer

FIT = FitConfig(steps=6, batch_size=4, warmup_steps=2, save_every=3)
TINY = presets.tiny()
LOSS = replace(SPRITES, revive_after=20)
TOKENIZER = TokenizerRecipe(model=TINY.tokenizer, loss=LOSS, fit=FIT, frames=8)
DYNAMICS = DynamicsRecipe(
    model=TINY.dynamics, loss=DynamicsLossConfig(), fit=FIT, frames=8, token_stride=4
)


@dataclass(frozen=True)
class Made:
    data: Path
    tokenizer: Path
    dynamics: Path
    world: Path


@contextmanager
def every_step_logged() -> Iterator[None]:
    """Runs this short would else log nothing but their last step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("world_models.training.fit.LOG_EVERY", 1)
        yield


@every_step_logged()
def make_world(root: Path, data: Path | None = None) -> Made:
    """A world made by the three commands, of the square or of other data of its size."""
    data = data or write_episodes(root / "data")
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


def motion() -> presets.WorldConfig:
    """A world with a motion tokenizer."""
    coder = replace(TINY.tokenizer.transformer, temporal=False)
    tokenizer = ResidualVQConfig(
        frame_size=TINY.tokenizer.frame_size, patch=4, transformer=coder, num_codes=256
    )
    return replace(TINY, tokenizer=tokenizer)
