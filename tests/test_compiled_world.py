"""Compiled worlds: the same dreams, their own weights, the world that was compiled left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.compiler import needs_compiler
from tests.square_runs import motion
from tests.test_world_model import ACTIONS, dream, prompt, tokens_of
from world_models.compiler import compiled
from world_models.inference.compile import TILE, CompiledDynamics, CompiledWorld
from world_models.inference.sampling import MaskedTokens, unmask
from world_models.inference.world import WorldModel
from world_models.model.dynamics import Dynamics
from world_models.model.masking import cosine_schedule
from world_models.model.token_space import SamplingConfig, TokenSpace
from world_models.presets import build, paper, tiny

pytestmark = pytest.mark.timeout(900)  # compiling takes minutes where nothing is cached yet


def make_world(seed: int = 0, kind: str = "two_stream", threshold: float = 1.0) -> WorldModel:
    torch.manual_seed(seed)
    config = motion() if kind == "motion" else tiny()
    sampling = SamplingConfig(steps=3, temperature=2 / 3, threshold=threshold)
    config = replace(config, sampling=sampling)
    if kind == "paper":
        config = replace(config, dynamics=replace(config.dynamics, objective="paper"))
    return build(config).eval().requires_grad_(False)


def dreamed(world: WorldModel, rows: int = 2) -> torch.Tensor:
    state = world.start(*prompt(rows), seeds=torch.arange(rows))
    return tokens_of(dream(world, state, ACTIONS[:rows, :3]))


@needs_compiler
@pytest.mark.parametrize(
    "options", [{"kind": "motion", "threshold": 0.3}, {"kind": "paper"}], ids=str
)
def test_a_compiled_dream_is_the_same_dream(options):
    world = make_world(**options)
    assert torch.equal(dreamed(CompiledWorld(world)), dreamed(world))


@needs_compiler
@torch.no_grad()
def test_long_dreams_compile_nothing_after_their_first_steps():
    """Rows need different numbers of sampling passes; their number stays the same."""
    world = make_world(kind="motion", threshold=0.3)
    world.dynamics.to_logits.weight.mul_(8)  # more certain, and so not always out of passes
    world = CompiledWorld(world)
    # Two rows, as in the test above, so that what that test compiled is used again.
    state, passes = world.start(*prompt(2), seeds=torch.arange(2)), set()
    action = torch.zeros(2, dtype=torch.int64)
    for _ in range(3):
        state, _ = world.step(state, action)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(100):
            state, step = world.step(state, action)
            passes.add(tuple(step.passes.tolist()))
    assert len(passes) > 3, "all rows needed as many passes"


@needs_compiler
def test_compiled_worlds_keep_to_their_own_weights():
    first, second = make_world(0), make_world(1)
    expected = [dreamed(first), dreamed(second)]
    assert not torch.equal(*expected)
    fast = [CompiledWorld(first), CompiledWorld(second)]
    for _ in range(2):  # the second time, both are compiled
        for world, tokens in zip(fast, expected, strict=True):
            assert torch.equal(dreamed(world), tokens)
    for part in first.modules():
        left = {"step", "finish", "predict", "decode_frame", "forward"} & vars(part).keys()
        assert not left, "compiling left its mark on the world itself"
    assert torch.equal(dreamed(fast[0].sampled(steps=2)), dreamed(first.sampled(steps=2)))


@needs_compiler
@torch.no_grad()
def test_frozen_steps_are_the_same_steps():
    """In half precision, where weights become constants, filled up to whole tiles.

    At the published width, since what the compiler does depends on it.
    """
    config = paper(num_actions=5).dynamics
    config = replace(config, transformer=replace(config.transformer, num_layers=1))
    space = TokenSpace(grid=(16, 16), num_codes=1024, code_dim=32)
    dynamics = Dynamics(config, space).to(torch.bfloat16).eval().requires_grad_(False)
    sizes = [n for x in dynamics.parameters() if x.ndim == 2 for n in x.shape]
    assert any(size % TILE for size in sizes), "nothing to fill up"
    tokens, frames = torch.randint(1024, (2, 256)), torch.zeros(2, 64, 64, 3, dtype=torch.uint8)
    last = dynamics.transformer.empty_cache(2), torch.tensor([0, 1]), frames
    fast = CompiledDynamics(dynamics)
    inputs = fast.inputs(*last)
    torch.testing.assert_close(inputs, dynamics.inputs(*last))
    sampling = SamplingConfig(steps=4)
    schedule = torch.tensor(cosine_schedule(4, 256))
    none = torch.zeros(2, dtype=torch.int64)
    canvas = MaskedTokens(tokens, torch.rand(2, 256) < 0.5, none, none.clone())
    noise = torch.rand(2, 256)
    unmasked, entropy = fast.sampling_pass(canvas, inputs, schedule, noise, sampling)
    logits, _ = dynamics.step(tokens, inputs)
    expected, its_entropy = unmask(canvas, logits, schedule, noise, sampling, space)
    torch.testing.assert_close(entropy, its_entropy, atol=0.02, rtol=0.02)
    torch.testing.assert_close(unmasked, expected, atol=0, rtol=0)
    found, expected = fast.finish(tokens, inputs), dynamics.finish(tokens, inputs)
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0.05)

    dynamics.to_logits.bias[0] += 9  # later changes are not seen: the step is of the weights then
    _, again = fast.sampling_pass(canvas, inputs, schedule, noise, sampling)
    assert torch.equal(again, entropy)


@needs_compiler
@pytest.mark.parametrize("neutral, group_start", [(None, None), (0, None), (0, 20)])
@pytest.mark.parametrize("num_rows, num_tokens", [(2, 16), (5, 64)])
def test_compiled_passes_unmask_the_same(num_rows, num_tokens, neutral, group_start):
    """Once, ranks that were scattered were read before they were all there."""
    torch.manual_seed(0)
    config = SamplingConfig(steps=4, temperature=2 / 3, threshold=0.3)
    space = TokenSpace(
        grid=(1, num_tokens), num_codes=32, code_dim=1, neutral=neutral, group_start=group_start
    )
    schedule = torch.tensor(cosine_schedule(4, num_tokens))
    none = torch.zeros(num_rows, dtype=torch.int64)
    tokens = torch.full((num_rows, num_tokens), 32)
    canvas = MaskedTokens(tokens, torch.ones_like(tokens, dtype=torch.bool), none, none.clone())
    fast = compiled(unmask, cpp_wrapper=True)  # as worlds in half precision do
    for _ in range(4):
        logits, noise = 2 * torch.randn(num_rows, num_tokens, 32), torch.rand(tokens.shape)
        inputs = canvas, logits, schedule, noise, config, space
        (found, entropy), (canvas, expected) = fast(*inputs), unmask(*inputs)
        torch.testing.assert_close(found, canvas, atol=0, rtol=0)
        torch.testing.assert_close(entropy, expected)


@needs_compiler
def test_compiled_worlds_round_rewards_like_the_world():
    world = make_world()
    world.rewards = (0.0, 10.0)
    assert CompiledWorld(world).rewards == world.rewards


def test_without_a_compiler_it_says_so(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RuntimeError, match="no-such-compiler was not found"):
        CompiledWorld(make_world())
