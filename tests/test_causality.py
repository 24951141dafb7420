"""Nothing depends on the future, and streaming is the same computation as the full pass."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from tests.compiler import needs_compiler
from world_models.inference.compile import Compiler
from world_models.model.dynamics import Dynamics
from world_models.model.latent_action import LatentActionModel
from world_models.model.losses import DynamicsLossConfig
from world_models.model.token_space import NO_ACTION, Clip, TokenSpace
from world_models.model.transformer import SpaceTimeTransformer, TransformerConfig
from world_models.parts import build_tokenizer
from world_models.presets import tiny
from world_models.tokenizers.motion.patch_codebook import PatchCodebookConfig
from world_models.tokenizers.motion.residual_vq import ResidualVQConfig

GRID = (3, 4)
AT = 5  # the frame that is perturbed
STEPWISE = replace(tiny().tokenizer.transformer, temporal=False)
MOTION = {"frame_size": 16, "patch": 4, "num_codes": 256}
TOKENIZERS = [
    tiny().tokenizer,
    ResidualVQConfig(transformer=STEPWISE, **MOTION),
    PatchCodebookConfig(**MOTION),
]
SMALL = TransformerConfig(dim=32, num_layers=2, num_heads=2, head_dim=16, position_dim=8, window=16)


def transformer(**changes: object) -> SpaceTimeTransformer:
    torch.manual_seed(0)
    time_first = bool(changes.pop("time_first", False))
    return SpaceTimeTransformer(replace(SMALL, **changes), GRID, time_first).eval()


def streamed(model: SpaceTimeTransformer, x: Tensor, passes: int = 1) -> Tensor:
    cache, out = model.empty_cache(len(x)), []
    for frame in x.unbind(1):
        past = model.past(cache)
        for _ in range(passes - 1):  # passes over another frame in its place must leave no trace
            model.step(torch.randn_like(frame), past)
        x, activations = model.step(frame, past)
        cache = cache.write(model.entry(activations))
        out.append(x)
    return torch.stack(out, 1)


@pytest.mark.parametrize("time_first", [False, True])
@pytest.mark.parametrize("ff_per_block", [1, 2])
@pytest.mark.parametrize("num_frames, window", [(16, 16), (40, 16), (40, 4)])
@torch.no_grad()
def test_streaming_equals_the_full_pass(num_frames, window, ff_per_block, time_first):
    model = transformer(window=window, ff_per_block=ff_per_block, time_first=time_first)
    x = torch.randn(2, num_frames, 12, SMALL.dim)
    torch.testing.assert_close(streamed(model, x, passes=3), model(x), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_streaming_without_time_equals_the_full_pass():
    model = transformer(temporal=False)
    x = torch.randn(2, 5, 12, SMALL.dim)
    torch.testing.assert_close(streamed(model, x), model(x), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model(x)[:, 3:], model(x[:, 3:]), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_attention_forgets_what_left_the_window():
    """With one layer and no convolution taps, frame t sees exactly the last W frames."""
    model = transformer(num_layers=1, window=4)
    for layer in model.layers:
        layer.peg.taps.zero_()
    x = torch.randn(1, 10, 12, SMALL.dim)
    changed = x.clone()
    changed[:, 2] += 1
    moved = (model(x) != model(changed)).flatten(2).any(-1)[0]
    assert moved.tolist() == [False, False, True, True, True, True] + [False] * 4


@pytest.mark.parametrize("time_first", [False, True])
@torch.no_grad()
def test_transformer_ignores_the_future_to_the_bit(time_first):
    model = transformer(time_first=time_first)
    x = torch.randn(2, 9, 12, SMALL.dim)
    changed = x.clone()
    changed[:, AT:] += torch.randn_like(changed[:, AT:])
    assert torch.equal(model(x)[:, :AT], model(changed)[:, :AT])
    assert not torch.equal(model(x)[:, AT], model(changed)[:, AT])


@torch.no_grad()
@pytest.mark.parametrize("config", TOKENIZERS, ids=["vq", "residual-vq", "patch-codebook"])
def test_tokenizer_ignores_the_future_to_the_bit(config):
    torch.manual_seed(0)
    model = build_tokenizer(config).eval()
    frames = torch.randint(256, (2, 8, 16, 16, 3), dtype=torch.uint8)
    prompt, changed = frames[:, :1], frames.clone()
    changed[:, AT:] = 255 - changed[:, AT:]
    assert torch.equal(model.encode(frames)[:, :AT], model.encode(changed)[:, :AT])
    assert not torch.equal(model.encode(frames)[:, AT:], model.encode(changed)[:, AT:])
    tokens = torch.randint(config.num_codes, (2, 8, 16))
    changed = tokens.clone()
    changed[:, AT:] = (changed[:, AT:] + 1) % config.num_codes
    decoded, other = model.decode(tokens, prompt), model.decode(changed, prompt)
    assert torch.equal(decoded[:, :AT], other[:, :AT])


@torch.no_grad()
def test_latent_actions_and_their_predictions_ignore_the_future_to_the_bit():
    torch.manual_seed(0)
    model = LatentActionModel(tiny().latent_action).eval()
    pixels = torch.rand(2, 8, 3, 16, 16)
    changed = pixels.clone()
    changed[:, AT:] = torch.rand_like(changed[:, AT:])
    predicted, actions, _ = model(pixels)
    predicted_changed, actions_changed, _ = model(changed)
    # Prediction t is of frame t + 1 and uses the action that saw it.
    assert torch.equal(predicted[:, : AT - 1], predicted_changed[:, : AT - 1])
    assert torch.equal(actions[:, : AT - 1], actions_changed[:, : AT - 1])
    assert not torch.equal(predicted[:, AT:], predicted_changed[:, AT:])


def dynamics(patch: int = 0, **changes: object) -> Dynamics:
    torch.manual_seed(0)
    space = TokenSpace(grid=(4, 4), num_codes=32, code_dim=8, patch=patch)
    return Dynamics(replace(tiny().dynamics, **changes), space, torch.randn(32, 8)).eval()


def window(num_frames: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    tokens = torch.randint(32, (2, num_frames, 16))
    masked = tokens[:, 1:].masked_fill(torch.rand(2, num_frames - 1, 16) < 0.5, 32)
    return tokens, torch.randint(5, (2, num_frames - 1)), masked


@pytest.mark.parametrize("action_input", ["concat", "add"])
@torch.no_grad()
def test_dynamics_ignores_later_frames_and_actions_to_the_bit(action_input):
    model = dynamics(action_input=action_input)
    tokens, actions, masked = window()
    states = partial(model.objective.states, model)
    clean, predicting = states(Clip(tokens, actions), masked)
    later = tokens.clone()
    later[:, AT:] = (later[:, AT:] + 1) % 32
    clean_later, predicting_later = states(Clip(later, actions), masked)
    assert torch.equal(clean[:, :AT], clean_later[:, :AT])
    # Masked frame t predicts frame t + 1: the clean frame AT must not leak into its prediction.
    assert torch.equal(predicting[:, :AT], predicting_later[:, :AT])
    assert not torch.equal(predicting[:, AT], predicting_later[:, AT])
    other = actions.clone()
    other[:, AT - 1 :] = (other[:, AT - 1 :] + 1) % 5  # this one leads to frame AT
    clean_other, predicting_other = states(Clip(tokens, other), masked)
    assert torch.equal(clean[:, :AT], clean_other[:, :AT])
    assert torch.equal(predicting[:, : AT - 1], predicting_other[:, : AT - 1])
    assert not torch.equal(predicting[:, AT - 1], predicting_other[:, AT - 1])


@torch.no_grad()
def test_one_masked_frame_does_not_see_another():
    model = dynamics()
    tokens, actions, masked = window()
    changed = masked.clone()
    changed[:, 2] = 32
    predicting = model.objective.states(model, Clip(tokens, actions), masked)[1]
    predicting_changed = model.objective.states(model, Clip(tokens, actions), changed)[1]
    moved = (predicting != predicting_changed).flatten(2).any(-1).any(0)
    assert moved.tolist() == [False, False, True, False, False, False, False]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"learned_share": DynamicsLossConfig.LEARNED_SHARE},
        {"learned_share": 0.0},
        {"patch": 4},
        {"patch": 4, "brightness": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("num_frames", [8, 24])
@torch.no_grad()
def test_two_stream_training_sees_what_streaming_sees(num_frames, options):
    learned_share = options.get("learned_share", 1.0)
    model = dynamics(**{k: v for k, v in options.items() if k != "learned_share"})
    tokens, actions, masked = window(num_frames)
    previous = torch.randint(256, (2, num_frames, 16, 16, 3), dtype=torch.uint8)
    clip = Clip(tokens, actions, previous)
    clean, predicting = model.objective.states(model, clip, masked, learned_share)
    cache = model.transformer.empty_cache(2)
    none = torch.full((2,), NO_ACTION)
    for t in range(num_frames):
        action = actions[:, t - 1] if t else none
        frame = model.objective.next_frame(model, cache, tokens[:, t - 1], action, previous[:, t])
        if t:
            expected = model.to_logits(predicting[:, t - 1])
            logits = frame.logits(masked[:, t - 1], torch.arange(2))
            torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
        cache, reward, termination = frame.commit(tokens[:, t])
        expected_reward, expected_termination = model.outcome.predict(clean[:, t])
        torch.testing.assert_close(reward, expected_reward, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(termination, expected_termination, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("num_frozen", [1, 3])
def test_no_gradient_reaches_clean_frames_through_frozen_layers(num_frozen):
    transformer, num_clean = dynamics().transformer, 6
    frames = torch.randn(2, 2 * num_clean - 1, 16, transformer.config.dim)
    found = []
    for number in (0, num_frozen):
        x = frames.clone().requires_grad_()
        out = transformer.last_layer(transformer.all_but_last(x, num_clean, number), num_clean)
        out.square().sum().backward()
        found.append((out.detach(), x.grad[:, :num_clean], x.grad[:, num_clean:]))
    (whole, clean, masked), (same, no_clean, masked_too) = found
    torch.testing.assert_close(whole, same)
    assert clean.any() and masked.any() and masked_too.any() and not no_clean.any()


@torch.no_grad()
def test_the_papers_objective_streams_too():
    model = dynamics(objective="paper")
    tokens, actions, _ = window(12)
    expected = model.objective.joint_logits(model, Clip(tokens, actions), num_ahead=11)
    outcomes = model.objective.outcome_states(model, Clip(tokens, actions))
    cache, frames = model.transformer.empty_cache(2), torch.zeros(2, 16, 16, 3, dtype=torch.uint8)
    for t in range(11):
        frame = model.objective.next_frame(model, cache, tokens[:, t], actions[:, t], frames)
        logits = frame.logits(torch.full((2, 16), model.space.mask_token), torch.arange(2))
        torch.testing.assert_close(logits, expected[:, t], atol=1e-4, rtol=1e-4)
        cache, *outcome = frame.commit(tokens[:, t + 1])
        expected_outcome = list(model.outcome.predict(outcomes[:, t]))
        torch.testing.assert_close(outcome, expected_outcome, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("options", [{}, {"patch": 4}], ids=str)
@torch.no_grad()
def test_one_pass_training_sees_what_streaming_sees(options):
    model = dynamics(objective="one_pass", **options)
    tokens, actions, _ = window(24)
    frames = torch.randint(256, (2, 24, 16, 16, 3), dtype=torch.uint8)
    clip = Clip(tokens, actions, torch.cat((frames[:, :1], frames[:, :-1]), 1))
    states = model.objective.outcome_states(model, clip)
    expected = model.to_logits(model.transformer.last_layer(states))
    last = model.objective.joint_logits(model, clip, num_ahead=1)
    torch.testing.assert_close(last, expected[:, -1:])
    cache = model.transformer.empty_cache(2)
    for t in range(23):
        past = tokens[:, t], actions[:, t], frames[:, t]
        frame = model.objective.next_frame(model, cache, *past)
        logits = frame.logits(torch.full((2, 16), model.space.mask_token), torch.arange(2))
        torch.testing.assert_close(logits, expected[:, t], atol=1e-4, rtol=1e-4)
        cache, *outcome = frame.commit(tokens[:, t + 1])
        expected_outcome = list(model.outcome.predict(states[:, t]))
        torch.testing.assert_close(outcome, expected_outcome, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="one frame at a time"):
        model.objective.joint_logits(model, clip, num_ahead=2)


@torch.no_grad()
@pytest.mark.parametrize("num_prompt", [1, 4])
@pytest.mark.parametrize("config", TOKENIZERS, ids=["vq", "residual-vq", "patch-codebook"])
def test_tokenizer_streams(config, num_prompt):
    torch.manual_seed(0)
    model = build_tokenizer(config).eval()
    frames = torch.randint(256, (2, 20, 16, 16, 3), dtype=torch.uint8)
    tokens, shown = model.encode(frames, num_prompt), model.reconstruct(frames, num_prompt)
    assert torch.equal(model.decode(tokens, frames[:, :num_prompt]), shown)
    encoder, decoder = model.empty_cache(2), model.empty_cache(2)
    previous = frames[:, 0]
    for t in range(20):
        step_tokens, encoder = model.encode_step(frames[:, t], encoder, previous)
        frame, decoder = model.decode_step(tokens[:, t], decoder, previous)
        assert torch.equal(step_tokens, tokens[:, t])
        assert (frame.int() - shown[:, t].int()).abs().max() <= 1
        previous = frames[:, t] if t < num_prompt else frame


@needs_compiler
@torch.no_grad()
def test_compiled_steps_are_the_same_steps():
    model = transformer(num_layers=1)
    x = torch.randn(2, 4, 12, SMALL.dim)
    model.step = Compiler(model)(model.step)
    torch.testing.assert_close(streamed(model, x), model(x), atol=1e-4, rtol=1e-4)


@needs_compiler
@torch.no_grad()
@pytest.mark.parametrize("num_frames", [1, 4])
def test_a_compiled_full_pass_is_the_same_pass(num_frames):
    model = transformer(num_layers=1)
    x = torch.randn(2, num_frames, 12, SMALL.dim)
    compiled = torch.compile(model.forward, dynamic=False)
    torch.testing.assert_close(compiled(x), model(x), atol=1e-4, rtol=1e-4)
