"""Models of the official code compute here what they compute there: tokens, pixels, logits, dreams.

The expected numbers are those of that code for the same random weights; see official_files.py.
"""

import math
from dataclasses import replace

import pytest
import torch

from tests.official_files import expected, write_all
from world_models.inference.sampling import sample_tokens
from world_models.model.attention import Attention
from world_models.model.dynamics import Dynamics, DynamicsConfig
from world_models.model.quantizer import Quantizer
from world_models.model.token_space import SamplingConfig, TokenSpace
from world_models.model.transformer import BlockOptions, FeedForward
from world_models.parts import build_tokenizer
from world_models.pixels import to_float
from world_models.presets import tiny
from world_models.tokenizers.vq import VQTokenizer
from world_models.worlds.official.world import official_world

pytestmark = pytest.mark.usefixtures("one_thread")

WORLDS = {
    "2024 GenieRedux-G": (2024, "guided"),
    "2024 GenieRedux": (2024, "latent"),
    "2025 GenieRedux-G": (2025, "guided"),
}
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="module", params=WORLDS)
def case(request, files):
    """A world, the outputs of the official code, and their prefix."""
    year, kind = WORLDS[request.param]
    tokenizer, dynamics = files[f"{year}/tokenizer"], files[f"{year}/{kind}"]
    world = official_world(tokenizer, dynamics, frame_size=24)
    return world.model, expected(year), kind


def far(found, wanted):
    return (found - wanted).abs().max().item()


def logits(dynamics, outputs, kind):
    x = dynamics.embed(outputs[f"{kind}_ids"], outputs[f"{kind}_actions"])
    return dynamics.to_logits(dynamics.transformer(x))[:, 3:]


@torch.no_grad()
def test_tokens_and_reconstruction_are_those_of_the_official_code(case):
    model, outputs, _ = case
    assert torch.equal(model.tokenizer.encode(outputs["frames"]), outputs["tokens"])
    found = model.tokenizer.decoded(outputs["tokens"])
    assert far(found, outputs["reconstruction"]) < TOLERANCE


@torch.no_grad()
def test_logits_are_those_of_the_official_code(case):
    model, outputs, kind = case
    assert far(logits(model.dynamics, outputs, kind), outputs[f"{kind}_logits"]) < TOLERANCE


def test_joint_sampling_of_1_8_and_25_passes_is_that_of_the_official_code(case):
    model, outputs, kind = case
    prompt, actions = outputs["frames"][:, :2], outputs[f"{kind}_actions"][:, :5]
    passes = [n for n in (1, 8, 25) if f"{kind}_one_go_{n}" in outputs]
    assert passes == ([1] if model.sampling.steps == 1 else [1, 8, 25])  # 2024: always one
    for steps in passes:
        dream = model.sampled(steps=steps, temperature=0.0).imagine(prompt, actions)
        assert torch.equal(dream.tokens, outputs[f"{kind}_one_go_{steps}"])
        if steps == 1:
            assert_same_video(dream.frames, outputs[f"{kind}_one_go_1_video"])


@pytest.mark.parametrize("frames_per_call", [1, 2])
def test_autoregressive_dreams_are_those_of_the_official_code(case, frames_per_call):
    model, outputs, kind = case
    prompt, actions = outputs["frames"][:, :2], outputs[f"{kind}_actions"][:, :5]
    cold = model.sampled(temperature=0.0)
    dream = cold.imagine(prompt, actions, frames_per_call=frames_per_call)
    name = "one_frame_per_call" if frames_per_call == 1 else "autoregressive_25"
    assert_same_video(dream.frames, outputs[f"{kind}_{name}_video"])


def test_a_streamed_dream_is_that_of_the_official_code_frame_by_frame(case):
    """Also at the default temperature: the last pass of each frame always takes the likeliest."""
    model, outputs, kind = case
    dream = model.rollout(outputs["frames"][:, :2], outputs[f"{kind}_actions"][:, :5])
    assert_same_video(dream.frames, outputs[f"{kind}_one_frame_per_call_video"])


def assert_same_video(frames, wanted):
    assert (frames.int() - wanted.int()).abs().max() <= 1  # a rounding tie
    assert (frames != wanted).float().mean() < 1e-3


def test_latent_actions_and_their_frames_are_those_of_the_official_code(files):
    path = files["2024/latent"]
    model = official_world(files["2024/tokenizer"], path, frame_size=24).model
    outputs = expected(2024)
    assert torch.equal(model.latent_action.actions(outputs["frames"]), outputs["latent_named"])
    with torch.no_grad():
        predicted, _, _ = model.latent_action(to_float(outputs["frames"]))
    assert far(predicted, outputs["latent_reconstruction"]) < TOLERANCE


@torch.no_grad()
def test_streaming_equals_the_full_pass_up_to_the_horizon(case):
    """Frame by frame with caches, or all frames at once: the same logits and pixels."""
    model, _, _ = case
    horizon, generator = model.dynamics.config.horizon, torch.Generator().manual_seed(0)
    frames = torch.randint(256, (1, horizon + 1, 24, 24, 3), generator=generator).byte()
    actions = torch.randint(5, (1, horizon), generator=generator)
    tokens = model.tokenizer.encode(frames)
    whole = model.dynamics.to_logits(
        model.dynamics.transformer(model.dynamics.embed(tokens[:, :-1], actions))
    )
    shown = model.tokenizer.decode(tokens, frames)
    state, found = model.start(frames[:, :1], actions[:, :0]), []
    for t in range(horizon):
        state, seen = model.observe(state, actions[:, t], frames[:, t + 1])
        found.append(seen.surprise)
        assert_same_video(seen.frames, shown[:, t + 1])
    surprise = torch.nn.functional.cross_entropy(whole[0].mT, tokens[0, 1:], reduction="none")
    assert far(torch.cat(found), surprise) < 1e-4


def test_passes_that_cannot_make_a_difference_are_left_out(case):
    """One frame ahead, 25 passes that see only the past draw what the last of them draws."""
    model, outputs, kind = case
    prompt, actions = outputs["frames"][:, :2], outputs[f"{kind}_actions"][:, :4]
    many = model.sampled(steps=25, temperature=1.0)
    dream = many.rollout(prompt, actions)
    assert torch.equal(dream.tokens, many.imagine(prompt, actions, frames_per_call=1).tokens)


# Every option has a property, which is gone if it is switched off ------------------------------


def without(option, model):
    """The tokenizer and the dynamics with the same weights, and one option switched off."""
    tokenizer, dynamics = model.tokenizer, model.dynamics
    coder, thinker = tokenizer.config, dynamics.config
    if option in ("raw_keys", "ff_bias"):
        blocks = replace(coder.blocks, **{option: False})
        coder, thinker = replace(coder, blocks=blocks), replace(thinker, blocks=blocks)
    elif option == "horizon":
        thinker = replace(thinker, horizon=0)
    else:
        coder = replace(coder, **{option: False})
    return (
        fitted(VQTokenizer(coder), tokenizer),
        fitted(Dynamics(thinker, dynamics.space), dynamics),
    )


def fitted(part, other):
    """A model with the weights of another one that has more of them."""
    known = other.state_dict()
    for name in part.state_dict().keys() - known.keys():
        if name.endswith("qkv.weight"):
            parts = [known[name.replace("qkv", x)] for x in ("q", "kv")]
            known[name] = torch.cat(parts)
        elif name.startswith("patches."):
            place = {"0": "linear", "1": "out"}[name.split(".")[2]]
            known[name] = known[f"patches.later.{place}.{name.split('.')[3]}"]
        else:
            known[name] = known[name.replace("to_patches.", "to_patches.later.")]
    if part.state_dict().get("positions", torch.zeros(())).ndim == 2:
        known["positions"] = known["positions"][0]
    part.load_state_dict({name: known[name] for name in part.state_dict()})
    return part.eval()


@pytest.mark.parametrize("option", ["raw_keys", "ff_bias", "own_first_frame", "raw_codes"])
@torch.no_grad()
def test_pixels_are_others_without_an_option_of_the_tokenizer(case, option):
    model, outputs, _ = case
    tokenizer, _ = without(option, model)
    found = tokenizer.decoded(outputs["tokens"])
    assert far(found, outputs["reconstruction"]) > 1000 * TOLERANCE
    assert not torch.equal(tokenizer.encode(outputs["frames"]), outputs["tokens"])


@pytest.mark.parametrize("option", ["raw_keys", "ff_bias", "horizon"])
@torch.no_grad()
def test_logits_are_others_without_an_option_of_the_dynamics(case, option):
    model, outputs, kind = case
    _, dynamics = without(option, model)
    assert far(logits(dynamics, outputs, kind), outputs[f"{kind}_logits"]) > 1000 * TOLERANCE


def test_dreams_are_others_without_redrawing(files):
    paths = files["2025/tokenizer"], files["2025/guided"]
    model, outputs = official_world(*paths, frame_size=24).model, expected(2025)
    usual = model.sampled(steps=8, temperature=0.0, redraw=False)
    dream = usual.imagine(outputs["frames"][:, :2], outputs["guided_actions"][:, :5])
    assert not torch.equal(dream.tokens, outputs["guided_one_go_8"])


@pytest.mark.parametrize("raw", [True, False])
def test_raw_keys_and_values_grow_with_the_tokens(raw):
    attention = Attention(dim=16, num_heads=2, head_dim=8, norm_all=not raw)
    x = torch.randn(1, 3, 4, 16)
    values = [attention.project(s * x, (3, 0, 1, 4, 2, 5))[2] for s in (1, 2)]
    assert torch.allclose(values[1], 2 * values[0], atol=1e-4) == raw


@pytest.mark.parametrize("bias", [True, False])
def test_a_norm_with_a_bias_makes_something_of_nothing(bias):
    ff = FeedForward(dim=16, mult=4.0, norm_bias=bias)
    torch.nn.init.normal_(ff.norm.weight if ff.norm.bias is None else ff.norm.bias)
    assert ff(torch.zeros(1, 16)).any() == bias


@pytest.mark.parametrize("own", [True, False])
def test_the_first_frame_is_embedded_and_drawn_by_weights_of_its_own(own):
    config = replace(tiny().tokenizer, own_first_frame=own)
    embedding, head = config.patch_embedding(), config.pixel_head()
    same = torch.rand(1, 1, 3, 16, 16).repeat(1, 2, 1, 1, 1)
    embedded, drawn = embedding(same), head(torch.randn(1, 1, 16, 48).repeat(1, 2, 1, 1))
    assert torch.equal(embedded[:, 0], embedded[:, 1]) != own
    assert torch.equal(drawn[:, 0], drawn[:, 1]) != own
    brighter = embedding(same * 0.5 + 0.5)  # a norm over the pixels removes this
    assert torch.allclose(brighter, embedded, atol=1e-2) == own


@pytest.mark.parametrize("raw", [True, False])
def test_raw_codes_keep_their_length(raw):
    quantizer = Quantizer(dim=8, num_codes=4, code_dim=3, unit_codes=not raw)
    before = quantizer.codes().detach().clone()
    quantizer.codebook.data.mul_(3)
    assert torch.allclose(quantizer.codes(), 3 * before) == raw
    right = torch.tensor([1.0, 0.0, 0.0])
    quantizer.codebook.data = torch.stack((right, 2 * right, -right, -right))
    chosen = quantizer.indices(torch.randn(64, 8))
    assert (chosen == 1).any() == raw  # of one direction, the longer code has the larger product
    assert (chosen == 0).any() != raw


@pytest.mark.parametrize("horizon", [5, 0])
def test_with_a_horizon_a_frame_knows_its_place_in_the_clip(horizon):
    size = tiny().dynamics.transformer
    config = DynamicsConfig(transformer=size, objective="paper", horizon=horizon)
    dynamics = Dynamics(config, build_tokenizer(tiny().tokenizer).space)
    same = torch.zeros(1, 5, 16, dtype=torch.int64), torch.zeros(1, 5, dtype=torch.int64)
    embedded = dynamics.embed(*same)
    assert torch.equal(embedded[:, 0], embedded[:, 4]) == (not horizon)
    longer = [torch.cat((x, x), 1) for x in same]
    if horizon:
        with pytest.raises(ValueError, match="positions for 5 frames, got 10"):
            dynamics.embed(*longer)
    else:
        assert dynamics.embed(*longer).shape[1] == 10


@pytest.mark.parametrize("redraw", [True, False])
def test_redrawing_replaces_all_tokens_in_each_pass_with_the_schedule_one_ahead(redraw):
    """A model whose likeliest token is the number of the pass tells which pass drew a token."""
    space, steps = TokenSpace(grid=(6, 6), num_codes=16, code_dim=2), 8
    config = SamplingConfig(steps=steps, temperature=0.0, redraw=redraw)
    hidden = []

    def predict(tokens, rows):
        hidden.append(int((tokens == space.mask_token).sum()))
        number = torch.full_like(tokens, len(hidden) - 1)
        return torch.nn.functional.one_hot(number, 16) * torch.rand(*tokens.shape, 1)

    seeds = torch.zeros(1, dtype=torch.int64)
    tokens = sample_tokens(predict, space, config, seeds, seeds).tokens
    ahead = [36] + [int(36 * math.cos(math.pi / 2 * (s + 1) / steps)) for s in range(1, steps)]
    assert (hidden == ahead) == redraw
    assert bool((tokens == steps - 1).all()) == redraw


def test_the_options_are_those_of_the_paper_alone():
    for other in ("two_stream", "one_pass"):
        for option in ({"horizon": 4}, {"blocks": BlockOptions(ff_bias=True)}):
            with pytest.raises(ValueError, match='options of the "paper" objective'):
                DynamicsConfig(objective=other, **option)
    with pytest.raises(ValueError, match="requires threshold 1"):
        SamplingConfig(redraw=True, threshold=0.9)
