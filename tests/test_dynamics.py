"""The dynamics by itself: what it looks at, what it is trained for, what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from world_models.model.dynamics import Dynamics, DynamicsConfig
from world_models.model.losses import DynamicsLossConfig
from world_models.model.masking import replace_tokens
from world_models.model.token_space import SamplingConfig, TokenSpace
from world_models.model.transformer import TransformerConfig
from world_models.noise import RowNoise
from world_models.presets import tiny
from world_models.tokenizers.vq import VQTokenizer, VQTokenizerConfig

SPACE = TokenSpace(grid=(4, 4), num_codes=32, code_dim=8)


def _dynamics(space: TokenSpace = SPACE, **changes: object) -> Dynamics:
    torch.manual_seed(0)
    config = replace(tiny().dynamics, **changes)
    return Dynamics(config, space, torch.randn(space.num_codes, space.code_dim))


def _batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {"tokens": torch.randint(32, (3, 6, 16)), "actions": torch.randint(5, (3, 5))}


@pytest.mark.parametrize("objective", ["two_stream", "one_pass", "paper"])
def test_training_the_outcome_alone_leaves_the_dream_as_it_is(objective):
    whole, model = _dynamics(objective=objective), _dynamics(objective=objective)
    rewards = torch.tensor([[0.0, 10.0, 0.0, 0.0, 10.0]]).expand(3, -1)
    batch = _batch() | {"rewards": rewards, "terminated": rewards > 0}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    losses = []
    for _ in range(40):
        loss, metrics = model.outcome_loss(batch)
        assert set(metrics) == {"loss", "reward_loss", "termination_loss"}
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    for name, value in whole.state_dict().items():
        kept = torch.equal(model.state_dict()[name], value)
        assert kept or name.startswith("outcome."), name


@pytest.mark.parametrize("objective", ["two_stream", "one_pass", "paper"])
@pytest.mark.parametrize("action_input", ["concat", "add"])
def test_every_dynamics_trains_every_parameter(objective, action_input):
    model = _dynamics(objective=objective, action_input=action_input)
    outcome = {"rewards": torch.ones(3, 5), "terminated": torch.ones(3, 5, dtype=torch.bool)}
    for batch in (_batch(), _batch() | outcome):
        loss, metrics = model.loss(batch)
        assert loss.isfinite() and metrics["loss"] == loss
    nn_last = model.outcome.mlp[-1]
    with torch.no_grad():
        nn_last.weight.normal_()  # it starts at zero, which hides what lies below
    model.loss(_batch() | outcome)[0].backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_token_input_adds_the_content_of_the_code():
    model, plain = _dynamics(), _dynamics(token_input=False)
    table = model.derived().table - model.tokens.weight
    torch.testing.assert_close(table[:-1], model.from_code(model.codes))
    assert not table[-1].any()  # a masked token has no content
    assert torch.equal(plain.derived().table, plain.tokens.weight)


def test_one_hot_actions_are_channels_and_no_action_is_none():
    model = _dynamics()
    x = model.embed(torch.zeros(2, 16, dtype=torch.int64), torch.tensor([3, -1]))
    assert x[0, :, -5:].unique(dim=0).tolist() == [[0, 0, 0, 1, 0]]
    assert not x[1, :, -5:].any()


def test_changed_weight_counts_changed_tokens_more():
    class CrossEntropy(DynamicsLossConfig):
        TDCE_WEIGHT = 0.0

    def loss(**changes: float) -> float:
        model = _dynamics()
        with torch.no_grad():  # always predicts token 0 with logit 4
            model.to_logits.weight.zero_()
            model.to_logits.bias.zero_()[0] = 4
        tokens = torch.zeros(1, 2, 16, dtype=torch.int64)
        tokens[0, 1, :8] = 1  # half the tokens change, and are wrong
        torch.manual_seed(0)
        batch = {"tokens": tokens, "actions": torch.zeros(1, 1, dtype=torch.int64)}
        everything_masked = CrossEntropy(mask_steps=1, **changes)
        return model.loss(batch, everything_masked)[0].item()

    normal = math.log(31 + math.exp(4))
    right, wrong = normal - 4, normal
    plain = loss()
    assert plain == pytest.approx((right + wrong) / 2, abs=1e-4)
    weighted = loss(changed_weight=3.0)
    assert weighted == pytest.approx((right + 4 * wrong) / 5, abs=1e-4)


def test_up_to_so_many_tokens_are_replaced():
    tokens = torch.randint(32, (64, 6, 16))
    torch.manual_seed(0)
    noisy = replace_tokens(tokens, 0.5, 32, RowNoise.like(tokens))
    share = (noisy != tokens).float().mean((1, 2))
    assert share.max() < 0.75 and 0.15 < share.mean() < 0.35 and share.std() > 0.08
    assert torch.equal(replace_tokens(tokens, 0.0, 32, RowNoise.like(tokens)), tokens)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: TransformerConfig(window=0), "window"),
        (lambda: TransformerConfig(ff_per_block=3), "ff_per_block"),
        (lambda: VQTokenizerConfig(frame_size=66, patch=4), "multiple"),
        (lambda: DynamicsConfig(objective="mine"), "objective"),
        (lambda: DynamicsConfig(action_input="mul"), "action_input"),
        (lambda: DynamicsConfig(num_actions=512), "must be larger"),
        (lambda: DynamicsLossConfig(context_noise=1.0), "context_noise"),
        (lambda: DynamicsLossConfig(mask_steps=0), "mask_steps"),
        (lambda: SamplingConfig(threshold=1.1), "threshold"),
        (lambda: Dynamics(tiny().dynamics, SPACE, torch.zeros(3, 3)), "codes"),
        (lambda: _dynamics(replace(SPACE, patch=4), objective="paper"), "previous frame"),
        (lambda: _dynamics(replace(SPACE, patch=4)).loss(_batch()), "previous_frames"),
        (lambda: _dynamics().loss({**_batch(), "actions": torch.zeros(3, 6).long()}), "actions"),
        (lambda: VQTokenizer(tiny().tokenizer).encode(torch.zeros(1, 1, 8, 8, 3).byte()), "frames"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@torch.no_grad()
def test_brightness_tells_all_tokens_of_a_shade_in_the_corner():
    torch.manual_seed(0)
    frames = torch.randint(256, (3, 16, 16, 3), dtype=torch.uint8)
    other = frames.clone()
    other[:, :4, :4] = 255 - other[:, :4, :4] // 2  # the first of 16 patches, brighter
    for brightness in (False, True):
        see = _dynamics(replace(SPACE, patch=4), brightness=brightness).frame_features
        changed = (see(frames) != see(other)).any(-1)  # (3, 16)
        assert changed[:, 0].all() and changed[:, 1:].all() == brightness
        for row in range(3):
            assert torch.equal(see(frames[row : row + 1])[0], see(frames)[row])
        torch.testing.assert_close(see(frames[None])[0], see(frames))
    with pytest.raises(ValueError, match="brightness requires"):
        _dynamics(brightness=True)


def test_training_windows_begin_as_dreams_do():
    """Nothing is known there of how the first frame came to be."""
    torch.manual_seed(0)
    space = replace(SPACE, num_codes=256, neutral=112, patch=4)
    model = _dynamics(space, brightness=True)
    batch = _batch() | {"seeds": torch.arange(3)}
    batch["previous_frames"] = torch.randint(256, (3, 6, 16, 16, 3), dtype=torch.uint8)
    other = {name: value.clone() for name, value in batch.items()}
    other["tokens"][:, 0] = 0
    other["previous_frames"][:, 0] = 0
    assert torch.equal(model.loss(batch)[0], model.loss(other)[0])
    other["previous_frames"][:, 1] = 0  # the first frame itself
    assert not torch.equal(model.loss(batch)[0], model.loss(other)[0])
