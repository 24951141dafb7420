"""Compiled worlds: the same dreams, their own weights, the world that was compiled left alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch

from tests.compiler import needs_compiler
from tests.test_world_models_world import ACTIONS, dream, prompt, tokens_of
from world_models.inference.compile import TILE, compiled, compiled_methods
from world_models.inference.sampling import Draft, SamplingConfig, reveal
from world_models.inference.world import WorldModel
from world_models.model.dynamics import Dynamics
from world_models.model.masking import num_masked
from world_models.presets import build, paper, tiny


def make_world(
    seed: int = 0, objective: Literal["two_stream", "paper"] = "two_stream", **sampling
) -> WorldModel:
    torch.manual_seed(seed)
    config = replace(tiny(), sampling=SamplingConfig(steps=3, temperature=2 / 3, **sampling))
    config = replace(config, dynamics=replace(config.dynamics, objective=objective))
    return build(config).eval().requires_grad_(False)


def dreamed(world: WorldModel, rows: int = 2) -> torch.Tensor:
    state = world.start(*prompt(rows), seeds=torch.arange(rows))
    return tokens_of(dream(world, state, ACTIONS[:rows, :3]))


@needs_compiler
@pytest.mark.parametrize("options", [{}, {"unbiased": True}, {"objective": "paper"}])
def test_a_compiled_dream_is_the_same_dream(options):
    world = make_world(**options)
    assert torch.equal(dreamed(world.compiled()), dreamed(world))


@needs_compiler
def test_compiled_worlds_keep_to_their_own_weights():
    first, second = make_world(0), make_world(1)
    expected = [dreamed(first), dreamed(second)]
    assert not torch.equal(*expected)
    fast = [first.compiled(), second.compiled()]
    for _ in range(2):  # the second time, both are compiled
        for world, tokens in zip(fast, expected, strict=True):
            assert torch.equal(dreamed(world), tokens)
    assert "step" not in vars(first.dynamics), "compiling left its mark on the world itself"
    assert torch.equal(dreamed(fast[0].sampled(steps=2)), dreamed(first.sampled(steps=2)))


@needs_compiler
@torch.no_grad()
def test_frozen_steps_are_the_same_steps():
    """In half precision, where weights become constants, filled up to whole tiles.

    At the published width, since what the compiler does depends on it.
    """
    config = paper(num_actions=5).dynamics
    config = replace(config, transformer=replace(config.transformer, num_layers=1))
    dynamics = Dynamics(config).to(torch.bfloat16).eval().requires_grad_(False)
    sizes = [n for x in dynamics.parameters() if x.ndim == 2 for n in x.shape]
    assert any(size % TILE for size in sizes), "nothing to fill up"
    tokens = torch.randint(config.num_codes, (2, 256))
    plan = dynamics.transformer.plan(dynamics.transformer.open(2))
    given = torch.tensor([0, 1]), plan
    fast = compiled_methods(dynamics, "reveal", "remember")
    sampling = SamplingConfig(steps=4)
    schedule = torch.tensor([num_masked(step, 4, 256) for step in range(5)])
    none = torch.zeros(2, dtype=torch.int64)
    draft = Draft(tokens, torch.rand(2, 256) < 0.5, none, none)
    one = draft, schedule, torch.rand(2, 256), sampling, *given
    expected, _ = dynamics.reveal(*one)
    found, revealed = fast["reveal"](*one)
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0.05)
    torch.testing.assert_close(revealed, reveal(draft, found, *one[1:4]), atol=0, rtol=0)
    rest = fast["remember"](tokens, *given)
    torch.testing.assert_close(rest, dynamics.remember(tokens, *given), atol=0.05, rtol=0.05)

    before = dynamics.to_logits.bias.clone()
    dynamics.to_logits.bias += 1  # later changes are not seen: the step is of the weights then
    again, _ = fast["reveal"](*one)
    assert torch.equal(again, found) and not torch.equal(dynamics.to_logits.bias, before)


@needs_compiler
@pytest.mark.parametrize("num_rows, num_tokens", [(2, 16), (5, 64)])
def test_compiled_passes_reveal_the_same(num_rows, num_tokens):
    """Once, ranks that were scattered were read before they were all there."""
    torch.manual_seed(0)
    config = SamplingConfig(steps=4, temperature=2 / 3, adaptive=True, threshold=0.3)
    schedule = torch.tensor([num_masked(step, 4, num_tokens) for step in range(5)])
    none = torch.zeros(num_rows, dtype=torch.int64)
    tokens = torch.full((num_rows, num_tokens), 32)
    draft = Draft(tokens, torch.ones_like(tokens, dtype=torch.bool), none, none)
    fast = compiled(reveal, cpp_wrapper=True)  # as worlds in half precision do
    for _ in range(4):
        said = 2 * torch.randn(num_rows, num_tokens, 32), schedule, torch.rand_like(tokens.float())
        found, draft = fast(draft, *said, config), reveal(draft, *said, config)
        torch.testing.assert_close(found, draft, atol=0, rtol=0)


def test_without_a_compiler_it_says_so(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RuntimeError, match="no-such-compiler was not found"):
        make_world().compiled()
