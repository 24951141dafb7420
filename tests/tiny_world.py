"""A small world of CoinRun, trained in half a minute by the commands that train large ones.

It sees two easy levels without backgrounds through 16 tokens per frame, which is enough for it to
show the game roughly, and makes every dream of the tests fast.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import torch

from genie_gym.collect.command import CollectConfig, collect
from world_models.model.dynamics import Dynamics
from world_models.tokenizers.vq import VQTokenizer
from world_models.training.package import BundleOptions, SamplingOptions, build_bundle
from world_models.training.recipes import RECIPES, WorldRecipe
from world_models.training.run_options import DataOptions, DynamicsOptions
from world_models.training.runs import train_dynamics, train_tokenizer

NAME = "CoinRun"
LEVELS = {
    "num_levels": "2",
    "distribution_mode": "easy",
    "use_backgrounds": "False",
    "restrict_themes": "True",
}
EPISODES, MAX_STEPS = 24, 120
TOKENIZER_STEPS, DYNAMICS_STEPS = 300, 250
PATCH, NUM_CODES = 16, 128


def recipe() -> WorldRecipe:
    base = RECIPES["coinrun-tiny"]()
    fit = replace(
        base.tokenizer.fit,
        warmup_steps=30,
        save_every=200,
        ema_decay=0.98,
        precision="fp32",
    )
    size = {"dim": 96, "num_heads": 4, "head_dim": 16, "position_dim": 16, "window": 8}
    coder = replace(base.tokenizer.model.transformer, num_layers=1, **size)
    thinker = replace(base.dynamics.model.transformer, num_layers=2, **size)
    tokenizer = replace(base.tokenizer.model, patch=PATCH, transformer=coder, num_codes=NUM_CODES)
    return replace(
        base,
        tokenizer=replace(
            base.tokenizer,
            model=tokenizer,
            fit=replace(fit, steps=TOKENIZER_STEPS, learning_rate=6e-3),
            frames=4,
        ),
        dynamics=replace(
            base.dynamics,
            model=replace(base.dynamics.model, transformer=thinker),
            fit=replace(fit, steps=DYNAMICS_STEPS, learning_rate=3e-3),
            frames=8,
        ),
    )


def tiny_world(cache: Path) -> Path:
    """The folder of the trained bundle; trains it unless this code already did."""
    folder = cache / _key()
    cache.mkdir(parents=True, exist_ok=True)
    if not (folder / NAME).is_dir():
        part = cache / f"{_key()}-{os.getpid()}"
        _train(part)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    return folder / NAME


def _train(out: Path) -> None:
    data, tokenizer, dynamics = (out / name for name in ("data", "tokenizer", "dynamics"))
    collect(
        CollectConfig(
            env="Procgen/CoinRun-v0",
            out=data,
            policy="sticky",
            episodes=EPISODES,
            max_steps=MAX_STEPS,
            num_envs=8,
            env_kwargs=LEVELS,
        )
    )
    runs = recipe()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # models this small are slower with more
    done = [train_tokenizer(runs.tokenizer, DataOptions(data=data, out=tokenizer))]
    options = DynamicsOptions(data=data, out=dynamics, tokenizer=str(tokenizer))
    done.append(train_dynamics(runs.dynamics, options))
    torch.set_num_threads(threads)
    if not all(result.finished for result in done):
        raise RuntimeError("the training of the tests' world was interrupted: run the tests again")
    build_bundle(
        BundleOptions(
            out=out / NAME,
            data=data,
            tokenizer=tokenizer,
            dynamics=dynamics,
            storage="float32",
            sampling=SamplingOptions(steps=4),
        )
    )
    for folder in (tokenizer, dynamics):
        shutil.rmtree(folder)


def _key() -> str:
    """Changes with the data, the recipe and the names and shapes of the weights."""
    runs = recipe()
    tokenizer = VQTokenizer(runs.tokenizer.model)
    parts = (tokenizer, Dynamics(runs.dynamics.model, tokenizer.space))
    shapes = [(name, tuple(x.shape)) for part in parts for name, x in part.state_dict().items()]
    text = f"{runs} {shapes} {LEVELS} {EPISODES} {MAX_STEPS}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
