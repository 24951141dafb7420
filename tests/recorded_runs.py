"""Short trainings and long dreams whose every number was recorded: see `test_recorded_losses`.

``python -m tests.recorded_runs`` records them anew, after a change that is meant to change numbers.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from world_models.model.dynamics import Dynamics, DynamicsConfig
from world_models.model.latent_action import LatentActionModel
from world_models.model.token_space import TokenSpace
from world_models.parts import build_tokenizer
from world_models.tokenizers.motion.displacement import STILL
from world_models.training.recipes import RECIPES
from world_models.worlds.bundle import load_world
from world_models.worlds.find import SHIPPED

RECORD = Path(__file__).with_name("recorded_losses.json")
STEPS = 6
MOTION = ("coinrun", "atari", "atari-many")
WORLDS = ("CoinRun", "CrazyClimber", "Hero", "Pong")
NUM_FRAMES = 200
KERNELS = ("avx", "amx", "fma", "f16c", "sse")  # what the kernels of torch are chosen by

Loss = Callable[[dict[str, Tensor]], tuple[Tensor, dict[str, Tensor]]]


def machine() -> dict[str, Any]:
    """What decides in which order sums are taken."""
    known = {}
    if (file := Path("/proc/cpuinfo")).exists():
        lines = file.read_text().split("\n\n")[0].splitlines()
        known = {
            name.strip(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }
    flags = [flag for flag in known.get("flags", "").split() if flag.startswith(KERNELS)]
    name = known.get("model name", platform.processor())
    return {"cpu": name, "flags": sorted(flags), "torch": torch.__version__}


# Trainings --------------------------------------------------------------------------------------


def losses() -> dict[str, list[float]]:
    """The losses of the first steps of recipes."""
    curves = {}
    for name in ("coinrun-tiny", *MOTION):
        recipe = RECIPES[name]()
        torch.manual_seed(0)
        tokenizer = build_tokenizer(recipe.tokenizer.model)
        frames = {"frames": moving_frames(2, 5, seed=3), "actions": torch.zeros(2, 4).long()}
        curves[f"{name}, tokenizer"] = curve(
            tokenizer, lambda x, t=tokenizer, r=recipe: t.loss(x, r.tokenizer.loss), frames, name
        )
        other = {"coinrun-tiny": ("paper",), "atari": ("one_pass",)}
        objectives = ("two_stream", *other.get(name, ()))
        for objective in objectives:
            config = replace(recipe.dynamics.model, objective=objective)
            model = make_dynamics(config, tokenizer.space)
            curves[f"{name}, {objective}"] = curve(
                model,
                lambda x, m=model, r=recipe: m.loss(x, r.dynamics.loss),
                token_batch(config, tokenizer.space),
                name,
            )
        if name != "coinrun-tiny":
            continue
        torch.manual_seed(0)
        latent = LatentActionModel(recipe.latent_action.model)
        curves[f"{name}, latent action"] = curve(
            latent, lambda x, m=latent, r=recipe: m.loss(x, r.latent_action.loss), frames, name
        )
        model = make_dynamics(recipe.dynamics.model, tokenizer.space)
        for part, parameter in model.named_parameters():
            parameter.requires_grad_(part.startswith("outcome."))
        curves[f"{name}, outcome"] = curve(
            model,
            lambda x, m=model, r=recipe: m.outcome_loss(x, r.dynamics.loss),
            token_batch(recipe.dynamics.model, tokenizer.space),
            name,
        )
    return curves


def curve(model: nn.Module, loss: Loss, batch: dict[str, Tensor], recipe: str) -> list[float]:
    if recipe in MOTION:  # so that the record does not depend on the order in which parts are made
        refill(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    model.train()
    found = []
    for step in range(STEPS):
        torch.manual_seed(100 + step)
        seeds = torch.arange(len(batch["actions"])) + 1000 * step
        cost, _ = loss({**batch, "seeds": seeds})
        cost.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(float(cost.detach()))
    return found


def refill(model: nn.Module) -> None:
    """Draw all matrices and kernels from one generator; biases are 0."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0, 0.05, generator=generator)
            elif name.endswith("bias"):
                parameter.zero_()


def make_dynamics(config: DynamicsConfig, space: TokenSpace) -> Dynamics:
    generator = torch.Generator().manual_seed(5)
    codes = torch.randn(space.num_codes, space.code_dim, generator=generator)
    torch.manual_seed(0)
    return Dynamics(config, space, codes)


def moving_frames(batch: int, num_frames: int, seed: int) -> Tensor:
    """Noise that scrolls, and a square that moves over it, uint8 ``(B, T, 64, 64, 3)``."""
    generator, size = torch.Generator().manual_seed(seed), 64
    noise = torch.rand(batch, size, size + 2 * num_frames, 3, generator=generator) * 60
    views = [noise.byte()[:, :, 2 * t : 2 * t + size] for t in range(num_frames)]
    frames = torch.stack(views, 1)
    for t in range(num_frames):
        for row in range(batch):
            y, x = (3 * t + 5 * row) % (size - 8), (2 * t + 7 * row) % (size - 8)
            frames[row, t, y : y + 8, x : x + 8] = torch.tensor([250, 200, 40]).byte()
    return frames


def token_batch(config: DynamicsConfig, space: TokenSpace) -> dict[str, Tensor]:
    generator, shape = torch.Generator().manual_seed(7), (2, 4)
    transitions, tokens = (2, 3), (*shape, space.num_tokens)
    batch = {
        "tokens": torch.randint(space.num_codes, tokens, generator=generator),
        "actions": torch.randint(config.num_actions, transitions, generator=generator),
        "rewards": torch.randint(3, transitions, generator=generator).float(),
        "terminated": torch.rand(transitions, generator=generator) < 0.2,
    }
    if space.patch:
        batch["previous_frames"] = moving_frames(*shape, seed=9)
        batch["input_tokens"] = torch.randint(space.num_codes, tokens, generator=generator)
        batch["tokens"][:, :, ::2] = STILL
    return batch


# Dreams -----------------------------------------------------------------------------------------


def dreamed_tokens(name: str) -> Tensor:
    """The tokens of a long dream of a shipped world, int64 ``(NUM_FRAMES, N)``."""
    world = load_world(SHIPPED / name)
    assert world.starts is not None
    generator = torch.Generator().manual_seed(1)
    actions = torch.randint(world.card.num_actions, (NUM_FRAMES, 1), generator=generator)
    state = world.model.start(world.starts.frames[:1], world.starts.actions[:1], torch.arange(1))
    tokens = []
    for action in actions:
        state, prediction = world.model.step(state, action)
        tokens.append(prediction.tokens[0])
    return torch.stack(tokens)


def digests(tokens: Tensor) -> dict[str, Any]:
    """A dream as it is recorded."""
    parts = {"all": tokens, "first_10": tokens[:10]}
    found = {
        name: hashlib.sha256(x.contiguous().numpy().tobytes()).hexdigest()
        for name, x in parts.items()
    }
    return {**found, "first_frame": tokens[0].tolist()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    record = {"machine": machine(), "losses": losses()}
    record["dreams"] = {name: digests(dreamed_tokens(name)) for name in WORLDS}
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
