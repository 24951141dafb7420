"""The models learn a world that can be learned exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import nn

from tests import square_world as square
from world_models.dynamics import Dynamics
from world_models.latent_action import LatentActionModel
from world_models.presets import tiny
from world_models.reconstruction import psnr
from world_models.sampling import SamplingConfig
from world_models.tokenizer import Tokenizer
from world_models.world import WorldModel


def fit(
    model: nn.Module,
    make_batch: Callable[[], dict[str, torch.Tensor]],
    num_steps: int,
    lr: float = 5e-3,
) -> dict[str, float]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, num_steps, pct_start=0.1)
    for _ in range(num_steps):
        loss, metrics = model.loss(make_batch())
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
    torch.manual_seed(0)
    tokenizer = Tokenizer(replace(tiny().tokenizer, num_codes=8))
    metrics = fit(tokenizer, lambda: square.sample(8, 5), num_steps=120)
    assert metrics["psnr"] > 30, metrics
    dynamics = Dynamics(replace(tiny().dynamics, num_codes=8), tokenizer.codes())

    def batch() -> dict[str, torch.Tensor]:
        data = square.sample(16, 5)
        return {**data, "tokens": tokenizer.encode(data["frames"])}

    fit(dynamics, batch, num_steps=200)
    return WorldModel(tokenizer, dynamics).eval()


@pytest.mark.parametrize("adaptive", [False, True])
def test_moving_square_is_learned_exactly(world, adaptive):
    torch.manual_seed(1)
    data = square.sample(32, 8)
    world.sampling = SamplingConfig(steps=4, adaptive=adaptive)
    state = world.start(data["frames"][:, :2], data["actions"][:, :1])
    real = world.tokenizer.encode(data["frames"])
    for t in range(2, 8):
        state, prediction = world.step(state, data["actions"][:, t - 1])
        assert torch.equal(prediction.tokens, real[:, t])
        assert (prediction.reward - data["rewards"][:, t - 1]).abs().max() < 0.1
        assert torch.equal(prediction.termination > 0.5, data["terminated"][:, t - 1])
        assert (prediction.frames.int() - data["frames"][:, t].int()).abs().float().mean() < 8
        assert not adaptive or prediction.passes.float().mean() < 2


def test_latent_actions_tell_moves_apart():
    """Nobody names the moves; the model must, to predict where the square went."""
    torch.manual_seed(0)
    model = LatentActionModel(replace(tiny().latent_action, num_actions=8, revive_after=20))
    metrics = fit(model, lambda: square.sample(16, 4), num_steps=250)
    data = square.sample(64, 4)
    predicted = model(data["frames"].movedim(-1, 2).float() / 255)[0]
    copied = psnr(data["frames"][:, :-1].float() / 255, data["frames"][:, 1:].float() / 255)
    assert metrics["psnr"] > copied + 3, (metrics, copied)
    assert predicted.shape[1] == 3 and metrics["action_perplexity"] > 2
