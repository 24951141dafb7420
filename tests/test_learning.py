"""The models learn a world that can be learned exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from tests import square_world as square
from world_models.inference.world import WorldModel
from world_models.model.dynamics import Dynamics
from world_models.model.latent_action import LatentActionModel
from world_models.model.reconstruction import ReconstructionLossConfig
from world_models.model.token_space import SamplingConfig
from world_models.presets import tiny
from world_models.tokenizers.vq import VQTokenizer
from world_models.training.recipes import SPRITES


def fit(
    model: nn.Module,
    make_batch: Callable[[], dict[str, torch.Tensor]],
    num_steps: int,
    lr: float = 5e-3,
    loss_config: Any = None,
) -> dict[str, float]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, num_steps, pct_start=0.1)
    for _ in range(num_steps):
        loss, metrics = model.loss(make_batch(), loss_config)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()
    return {name: float(x) for name, x in metrics.items()}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Models this small are slower on two threads, and much slower beside other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def world() -> WorldModel:
    torch.manual_seed(1)
    # A cell is empty or not: with codes to spare there would be synonyms, which nobody can guess.
    tokenizer = VQTokenizer(replace(tiny().tokenizer, num_codes=2))
    metrics = fit(tokenizer, lambda: square.sample(8, 8), num_steps=100, loss_config=SPRITES)
    assert metrics["psnr"] > 25, metrics
    dynamics = Dynamics(tiny().dynamics, tokenizer.space, tokenizer.codes())

    def batch() -> dict[str, torch.Tensor]:
        data = square.sample(8, 8)
        return {**data, "tokens": tokenizer.encode(data["frames"])}

    fit(dynamics, batch, num_steps=300)
    return WorldModel(tokenizer, dynamics).eval()


@pytest.mark.parametrize("threshold", [1.0, 0.9])
def test_moving_square_is_learned_exactly(world, threshold):
    torch.manual_seed(1)
    data = square.sample(32, 8)
    world.sampling = SamplingConfig(steps=4, threshold=threshold)
    state = world.start(data["frames"][:, :2], data["actions"][:, :1])
    real = world.tokenizer.encode(data["frames"])
    for t in range(2, 8):
        state, prediction = world.step(state, data["actions"][:, t - 1])
        assert torch.equal(prediction.tokens, real[:, t])
        assert (prediction.reward - data["rewards"][:, t - 1]).abs().max() < 0.1
        assert torch.equal(prediction.termination > 0.5, data["terminated"][:, t - 1])
        assert (prediction.frames.int() - data["frames"][:, t].int()).abs().float().mean() < 8
        assert threshold == 1 or prediction.passes.float().mean() < 2


def test_what_the_past_cannot_tell_goes_through_the_latent_action():
    """Frames are dark or bright at random: only a latent action can say which comes next."""

    def flashes(batch: int = 8) -> dict[str, torch.Tensor]:
        bright = torch.randint(2, (batch, 5, 1, 1, 1)).expand(-1, -1, 16, 16, 3)
        return {"frames": (40 + 160 * bright).to(torch.uint8)}

    torch.manual_seed(0)
    model = LatentActionModel(replace(tiny().latent_action, num_actions=2))
    revived = ReconstructionLossConfig(revive_after=10)
    metrics = fit(model, flashes, num_steps=160, loss_config=revived)
    assert metrics["psnr"] > 20, metrics  # without the action: 10 dB
    frames = flashes(32)["frames"]
    named, bright = model.actions(frames), frames[:, 1:, 0, 0, 0] > 100
    assert named[bright].unique().numel() == named[~bright].unique().numel() == 1
    assert named[bright][0] != named[~bright][0]
