"""Nothing depends on the future, and streaming is the same computation as the full pass."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from world_models.next_frame import next_frame

from tests.compiler import needs_compiler
from world_models.inference.compile import compiled_methods
from world_models.model.dynamics import NO_ACTION, Dynamics
from world_models.model.latent_action import LatentActionModel
from world_models.model.transformer import SpaceTimeTransformer, TransformerConfig
from world_models.parts import build_tokenizer
from world_models.presets import tiny

GRID = (3, 4)
AT = 5  # the frame that is perturbed
STEPWISE = replace(tiny().tokenizer.transformer, temporal=False)
TOKENIZERS = [
    tiny().tokenizer,
    replace(tiny().tokenizer, transformer=STEPWISE, num_codes=256, context=True),
    replace(
        tiny().tokenizer, transformer=STEPWISE, num_codes=256, context=True, painter="exemplars"
    ),
]
SMALL = TransformerConfig(dim=32, num_layers=2, num_heads=2, head_dim=16, position_dim=8, window=16)


def transformer(**changes: object) -> SpaceTimeTransformer:
    torch.manual_seed(0)
    time_first = bool(changes.pop("time_first", False))
    return SpaceTimeTransformer(replace(SMALL, **changes), GRID, time_first).eval()


def streamed(model: SpaceTimeTransformer, x: Tensor, passes: int = 1) -> Tensor:
    cache, out = model.open(len(x)), []
    for frame in x.unbind(1):
        plan = model.plan(cache)
        for _ in range(passes - 1):  # passes over drafts of the frame must leave no trace
            model.step(torch.randn_like(frame), plan)
        x, traces = model.step(frame, plan)
        cache = cache.write(model.trace(traces))
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
@pytest.mark.parametrize("config", TOKENIZERS, ids=["past", "context", "exemplars"])
def test_tokenizer_ignores_the_future_to_the_bit(config):
    torch.manual_seed(0)
    model = build_tokenizer(config).eval()
    frames = torch.randint(256, (2, 8, 16, 16, 3), dtype=torch.uint8)
    given, changed = frames[:, :1], frames.clone()
    changed[:, AT:] = 255 - changed[:, AT:]
    assert torch.equal(model.encode(frames)[:, :AT], model.encode(changed)[:, :AT])
    assert not torch.equal(model.encode(frames)[:, AT:], model.encode(changed)[:, AT:])
    tokens = torch.randint(config.num_codes, (2, 8, 16))
    changed = tokens.clone()
    changed[:, AT:] = (changed[:, AT:] + 1) % config.num_codes
    decoded, other = model.decode(tokens, given), model.decode(changed, given)
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


def dynamics(**changes: object) -> Dynamics:
    torch.manual_seed(0)
    config = replace(tiny().dynamics, **changes)
    return Dynamics(config, torch.randn(config.num_codes, config.code_dim)).eval()


def window(num_frames: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    tokens = torch.randint(32, (2, num_frames, 16))
    masked = tokens[:, 1:].masked_fill(torch.rand(2, num_frames - 1, 16) < 0.5, 32)
    return tokens, torch.randint(5, (2, num_frames - 1)), masked


@pytest.mark.parametrize("action_input", ["concat", "add"])
@torch.no_grad()
def test_dynamics_ignores_later_frames_and_actions_to_the_bit(action_input):
    model = dynamics(action_input=action_input)
    tokens, actions, masked = window()
    clean, hidden = model.predict_two_stream(tokens, actions, masked)
    later = tokens.clone()
    later[:, AT:] = (later[:, AT:] + 1) % 32
    clean_later, hidden_later = model.predict_two_stream(later, actions, masked)
    assert torch.equal(clean[:, :AT], clean_later[:, :AT])
    # Hidden stream t predicts frame t + 1: the clean frame AT must not leak into its prediction.
    assert torch.equal(hidden[:, :AT], hidden_later[:, :AT])
    assert not torch.equal(hidden[:, AT], hidden_later[:, AT])
    other = actions.clone()
    other[:, AT - 1 :] = (other[:, AT - 1 :] + 1) % 5  # this one leads to frame AT
    clean_other, hidden_other = model.predict_two_stream(tokens, other, masked)
    assert torch.equal(clean[:, :AT], clean_other[:, :AT])
    assert torch.equal(hidden[:, : AT - 1], hidden_other[:, : AT - 1])
    assert not torch.equal(hidden[:, AT - 1], hidden_other[:, AT - 1])


@torch.no_grad()
def test_one_hidden_frame_does_not_see_another():
    model = dynamics()
    tokens, actions, masked = window()
    changed = masked.clone()
    changed[:, 2] = 32
    hidden = model.predict_two_stream(tokens, actions, masked)[1]
    hidden_changed = model.predict_two_stream(tokens, actions, changed)[1]
    moved = (hidden != hidden_changed).flatten(2).any(-1).any(0)
    assert moved.tolist() == [False, False, True, False, False, False, False]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"learn_past": 1.0},
        {"learn_past": 0.0},
        {"frame_patch": 4},
        {"frame_patch": 4, "glance": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("num_frames", [8, 24])
@torch.no_grad()
def test_two_stream_training_sees_what_streaming_sees(num_frames, options):
    model = dynamics(**options)
    tokens, actions, masked = window(num_frames)
    before = torch.randint(256, (2, num_frames, 16, 16, 3), dtype=torch.uint8)
    clean, hidden = model.predict_two_stream(tokens, actions, masked, before)
    cache = model.transformer.open(2)
    none = torch.full((2,), NO_ACTION)
    for t in range(num_frames):
        action = actions[:, t - 1] if t else none
        ahead = next_frame(model, cache, tokens[:, t - 1], action, before[:, t])
        if t:
            expected = model.to_logits(hidden[:, t - 1])
            torch.testing.assert_close(
                ahead.logits(masked[:, t - 1]), expected, atol=1e-4, rtol=1e-4
            )
        cache, reward, termination = ahead.commit(tokens[:, t])
        expected_reward, expected_termination = model.outcome.predict(clean[:, t])
        torch.testing.assert_close(reward, expected_reward, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(termination, expected_termination, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("num_apart", [1, 3])
def test_where_the_past_is_computed_apart_no_gradient_reaches_it(num_apart):
    transformer, num_context = dynamics().transformer, 6
    given = torch.randn(2, 2 * num_context - 1, 16, transformer.config.dim)
    found = []
    for apart in (0, num_apart):
        x = given.clone().requires_grad_()
        out = transformer.leave(transformer.enter(x, num_context, apart), num_context)
        out.square().sum().backward()
        found.append((out.detach(), x.grad[:, :num_context], x.grad[:, num_context:]))
    (whole, past, now), (same, no_past, now_too) = found
    torch.testing.assert_close(whole, same)
    assert past.any() and now.any() and now_too.any() and not no_past.any()


@torch.no_grad()
def test_the_papers_objective_streams_too():
    model = dynamics(objective="paper")
    tokens, actions, _ = window(12)
    expected = model.to_logits(model.predict_shifted(tokens[:, :-1], actions))
    cache = model.transformer.open(2)
    for t in range(11):
        ahead = next_frame(model, cache, tokens[:, t], actions[:, t])
        logits = ahead.logits(torch.full((2, 16), model.mask_token))
        torch.testing.assert_close(logits, expected[:, t], atol=1e-4, rtol=1e-4)
        cache, _, _ = ahead.commit(tokens[:, t + 1])


@torch.no_grad()
@pytest.mark.parametrize("given", [1, 4])
@pytest.mark.parametrize("config", TOKENIZERS, ids=["past", "context", "exemplars"])
def test_tokenizer_streams(config, given):
    torch.manual_seed(0)
    model = build_tokenizer(config).eval()
    frames = torch.randint(256, (2, 20, 16, 16, 3), dtype=torch.uint8)
    tokens, shown = model.encode(frames, given), model.reconstruct(frames, given)
    assert torch.equal(model.decode(tokens, frames[:, :given]), shown)
    encoder, decoder = model.encoder.open(2), model.decoder.open(2)
    before = frames[:, 0]
    for t in range(20):
        step_tokens, encoder = model.encode_step(frames[:, t], encoder, before)
        frame, decoder = model.decode_step(tokens[:, t], decoder, before)
        assert torch.equal(step_tokens, tokens[:, t])
        assert (frame.int() - shown[:, t].int()).abs().max() <= 1
        before = frames[:, t] if t < given else frame


@needs_compiler
@torch.no_grad()
def test_compiled_steps_are_the_same_steps():
    model = transformer(num_layers=1)
    x = torch.randn(2, 4, 12, SMALL.dim)
    model.step = compiled_methods(model, "step")["step"]
    torch.testing.assert_close(streamed(model, x), model(x), atol=1e-4, rtol=1e-4)


@needs_compiler
@torch.no_grad()
@pytest.mark.parametrize("num_frames", [1, 4])
def test_a_compiled_full_pass_is_the_same_pass(num_frames):
    model = transformer(num_layers=1)
    x = torch.randn(2, num_frames, 12, SMALL.dim)
    compiled = torch.compile(model.forward, dynamic=False)
    torch.testing.assert_close(compiled(x), model(x), atol=1e-4, rtol=1e-4)
