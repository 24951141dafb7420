"""The small parts, each against values known by other means."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F

from world_models.kernels.token_distance import token_distance_cross_entropy
from world_models.model.attention import Attention, SpatialBias, alibi_slopes
from world_models.model.masking import bernoulli_masks, cosine_schedule, schedule_masks
from world_models.model.outcome import OutcomeHead
from world_models.model.peg import Peg
from world_models.model.quantizer import Quantizer
from world_models.model.reconstruction import (
    CHANGED,
    ReconstructionLossConfig,
    changed_pixels,
    reconstruction_loss,
)
from world_models.noise import RowNoise, uniform
from world_models.parts import build_part, build_tokenizer, config_from_dict, part_to_dict
from world_models.pixels import patches_from_pixels, pixels_from_patches, to_float, to_uint8
from world_models.presets import atari, atari_many, build, coinrun, paper, small, tiny
from world_models.tokenizers.vq import VQTokenizer, VQTokenizerConfig
from world_models.training.recipes import SPRITES


@pytest.mark.parametrize(
    "part, millions", [("tokenizer", 101.6), ("latent_action", 168.7), ("dynamics", 80.2)]
)
def test_paper_preset_has_the_published_size(part, millions):
    with torch.device("meta"):
        world = build(paper(), latent_action=True)
    count = sum(p.numel() for p in getattr(world, part).parameters()) / 1e6
    assert count == pytest.approx(millions, rel=0.03)


@pytest.mark.parametrize("preset", [paper, small, tiny, coinrun, atari, atari_many])
def test_parts_survive_json(preset):
    with torch.device("meta"):
        world = build(preset(), latent_action=True)
        for name in ("tokenizer", "dynamics", "latent-action"):
            part = getattr(world, name.replace("-", "_"))
            again = build_part(name, json.loads(json.dumps(part_to_dict(part))))
            assert type(again) is type(part) and again.config == part.config
            assert getattr(again, "space", None) == getattr(part, "space", None)
            shapes = [{k: x.shape for k, x in p.state_dict().items()} for p in (part, again)]
            assert shapes[0] == shapes[1]


def test_unknown_configuration_keys_and_kinds_are_refused():
    values = asdict(tiny().tokenizer) | {"codebook": 3}
    with pytest.raises(ValueError, match="codebook"):
        config_from_dict(VQTokenizerConfig, values)
    with pytest.raises(ValueError, match="unknown tokenizer kind 'mine': .* vq, residual-vq"):
        build_part("tokenizer", {**asdict(tiny().tokenizer), "kind": "mine"})


def test_pixels_survive_the_round_trip():
    frames = torch.randint(256, (2, 3, 8, 8, 3), dtype=torch.uint8)
    pixels = to_float(frames)
    assert pixels.shape == (2, 3, 3, 8, 8) and 0 <= pixels.min() and pixels.max() <= 1
    assert torch.equal(to_uint8(pixels), frames)
    assert torch.equal(pixels_from_patches(patches_from_pixels(pixels, 4), 4, 8), pixels)
    with pytest.raises(ValueError, match="uint8"):
        to_float(frames.float())


def test_alibi_slopes_are_the_papers_for_eight_heads():
    assert alibi_slopes(8).tolist() == [2.0**-i for i in range(1, 9)]


def test_spatial_bias_depends_on_the_offset_alone():
    bias = SpatialBias((3, 4), num_heads=2, hidden=8)()  # (H, 12, 12)
    assert torch.equal(bias[:, 0, 5], bias[:, 6, 11])  # both: one down, one right
    assert not torch.equal(bias[:, 0, 5], bias[:, 5, 0])


def test_peg_is_the_causal_depthwise_convolution():
    torch.manual_seed(0)
    peg = Peg(6, (3, 4), temporal=True)
    x = torch.randn(2, 5, 12, 6)
    kernel = peg.taps.detach().squeeze(2).permute(1, 0, 2, 3)[:, None]  # (D, 1, 3, 3, 3)
    video = F.pad(x.unflatten(2, (3, 4)).permute(0, 4, 1, 2, 3), (1, 1, 1, 1, 2, 0))
    expected = F.conv3d(video, kernel, peg.bias, groups=6).permute(0, 2, 3, 4, 1).flatten(2, 3)
    torch.testing.assert_close(peg(x, x, x.shape[1]), x + expected)


def test_cosine_schedule_by_hand():
    assert cosine_schedule(4, 64) == (64, 59, 45, 24, 0)
    assert cosine_schedule(1, 256) == (256, 0)
    assert cosine_schedule(3, 100)[1] == math.floor(100 * math.sqrt(3) / 2)


def test_training_masks_are_those_of_the_schedule():
    torch.manual_seed(0)
    frames = torch.zeros(200, 10, 64)
    masks = schedule_masks(frames, steps=4, noise=RowNoise.like(frames))
    counts = masks.sum(-1).flatten().tolist()
    assert set(counts) == {64, 59, 45, 24}
    assert all(400 < counts.count(n) < 600 for n in set(counts))
    assert masks.float().mean((0, 1)).std() < 0.03  # no place is favoured


def test_bernoulli_masks_have_one_rate_between_a_half_and_one():
    torch.manual_seed(0)
    frames = torch.zeros(8, 15, 64)
    masks = [bernoulli_masks(frames, RowNoise.like(frames)) for _ in range(50)]
    rates = [float(mask.float().mean()) for mask in masks]
    assert min(rates) > 0.48 and max(rates) <= 1 and max(rates) - min(rates) > 0.3


def test_tdce_by_hand():
    codes = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])  # distances from 0: 0, 1, 2
    logits = torch.tensor([[0.5, 0.25, 0.25]]).log()
    target = torch.tensor([0])
    for weight in (0.0, 1.0, 3.0):
        cost, cross_entropy = token_distance_cross_entropy(logits, target, codes, weight)
        assert cross_entropy.item() == pytest.approx(math.log(2))
        assert cost.item() == pytest.approx(math.log(2) + weight * 0.75)


@pytest.mark.parametrize("order", [(1, 0, 2, 3), (1, 2, 0, 3)])
def test_queries_and_keys_are_normalised_with_the_right_gradient(order):
    torch.manual_seed(0)
    attention = Attention(12, num_heads=2, head_dim=4).double()
    with torch.no_grad():
        attention.gain.normal_()
    x = torch.randn(3, 12, dtype=torch.float64)
    found = attention.project(x, order)
    plain = attention.qkv(attention.norm(x)).view(3, 3, 2, 4).permute(order)
    gain = attention.gain.prod(0) * 8
    expected = (F.normalize(plain[0], dim=-1) * gain, F.normalize(plain[1], dim=-1), plain[2])
    weights = [torch.randn_like(y) for y in expected]
    gradients = []
    for outputs in (found, expected):
        total = sum((w * y).sum() for w, y in zip(weights, outputs, strict=True))
        gradients.append(torch.autograd.grad(total, list(attention.parameters())[:3]))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*gradients)


def test_quantizer_round_trip():
    torch.manual_seed(0)
    quantizer = Quantizer(dim=16, num_codes=32, code_dim=16)
    with torch.no_grad():  # project_in undoes project_out, so a code must map to itself
        quantizer.project_out.weight.copy_(torch.eye(16))
        quantizer.project_in.weight.copy_(torch.eye(16))
        quantizer.project_in.bias.zero_()
        quantizer.project_out.bias.zero_()
    indices = torch.randint(32, (4, 9))
    assert torch.equal(quantizer.indices(quantizer.lookup(indices)), indices)
    quantized, chosen, loss = quantizer(quantizer.lookup(indices))
    assert torch.equal(chosen, indices)
    torch.testing.assert_close(quantized, quantizer.lookup(indices))
    assert loss < 1e-10


def test_quantizer_gradient_goes_straight_through():
    torch.manual_seed(0)
    quantizer = Quantizer(dim=8, num_codes=4, code_dim=3)
    x = torch.randn(5, 8, requires_grad=True)
    quantizer(x)[0].sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_dead_codes_are_revived_where_the_vectors_are():
    torch.manual_seed(0)
    quantizer = Quantizer(dim=8, num_codes=64, code_dim=4)
    x = torch.randn(256, 8)
    before = quantizer.indices(x).unique().numel()
    for _ in range(12):
        quantizer(x, revive_after=3)
    assert quantizer.indices(x).unique().numel() > max(before, 40)
    quantizer.eval()
    codes = quantizer.codebook.clone()
    for _ in range(12):
        quantizer(torch.randn(2, 8), revive_after=3)
    assert torch.equal(quantizer.codebook, codes)


def test_changed_pixels_are_those_that_differ_from_a_neighbour():
    pixels = torch.zeros(1, 4, 3, 2, 2)
    pixels[0, 2:, 1, 0, 1] = 0.5  # one pixel jumps between frames 1 and 2
    pixels[0, 2:, 1, 1, 1] = 0.99 * CHANGED  # too little
    changed = changed_pixels(pixels)
    assert changed.nonzero().tolist() == [[0, 1, 0, 0, 1], [0, 2, 0, 0, 1]]
    assert not changed_pixels(pixels[:, :1]).any()


def test_changed_weight_multiplies_the_error_where_it_says():
    target = torch.zeros(1, 2, 3, 2, 2)
    target[0, 1, :, 0, 0] = 1  # changed: one pixel of four, in both frames
    predicted = target.clone()
    predicted[0, :, :, 0, 0] += 0.5
    config = ReconstructionLossConfig(changed_weight=9.0)
    # Weight 10 on a quarter of the pixels, 1 on the rest: 0.25 * 10 / 13 of the total.
    expected = 0.25 * 10 / 13
    assert reconstruction_loss(predicted, target, config).item() == pytest.approx(expected)
    plain = ReconstructionLossConfig(l1_weight=0.1)
    assert reconstruction_loss(predicted, target, plain).item() == pytest.approx((0.25 + 0.05) / 4)


def test_events_weigh_as_much_as_is_asked():
    torch.manual_seed(0)
    head, x = OutcomeHead(8), torch.randn(2, 3, 4, 8)
    torch.nn.init.normal_(head.mlp[-1].weight)
    rewards = torch.tensor([[0.0, 0.0, 5.0], [0.0, 0.0, 0.0]])
    ended = torch.tensor([[False, False, False], [False, True, False]])
    once, fivefold = (torch.stack(head.losses(x, rewards, ended, w)) for w in (1.0, 5.0))
    alone = torch.stack(
        [
            head.losses(x[:1, 2:], rewards[:1, 2:], ended[:1, 2:])[0],
            head.losses(x[1:, 1:2], rewards[1:, 1:2], ended[1:, 1:2])[1],
        ]
    )
    torch.testing.assert_close(fivefold, once + 4 * alone / 6)


def test_two_hot_rewards_keep_their_mean():
    head = OutcomeHead(8)
    rewards = torch.tensor([0.0, 1.0, -3.7, 10.0, 200.0])
    weights = head.two_hot(rewards)
    torch.testing.assert_close(weights @ head.values, rewards)
    torch.testing.assert_close(weights.sum(-1), torch.ones(5))
    reward, termination = head.predict(torch.randn(3, 16, 8))
    assert reward.abs().max() < 1e-3 and torch.equal(termination, torch.full((3,), 0.5))


def test_noise_is_uniform_and_a_function_of_its_place():
    seeds, counters = torch.arange(64), torch.full((64,), 5)
    drawn = uniform(seeds, counters, draw=2, num=256)
    assert 0 <= drawn.min() and drawn.max() < 1
    histogram = torch.histc(drawn, 16, 0, 1) / drawn.numel()
    assert (histogram - 1 / 16).abs().max() < 0.01
    assert drawn.unique().numel() > 0.999 * drawn.numel()
    assert torch.equal(uniform(seeds[7:9], counters[7:9], 2, 256), drawn[7:9])
    for other in (uniform(seeds, counters + 1, 2, 256), uniform(seeds, counters, 3, 256)):
        correlation = torch.corrcoef(torch.stack((drawn.flatten(), other.flatten())))[0, 1]
        assert correlation.abs() < 0.03


def test_flat_patches_of_different_grey_look_different():
    """Normalising each patch's pixels, as the released code does, would make them all alike."""
    model = VQTokenizer(tiny().tokenizer)
    grey = torch.tensor([0.0, 0.4, 1.0])[None, :, None, None, None].expand(1, 3, 3, 16, 16)
    x = model.patches(grey)[0, :, 0]
    assert torch.pdist(x).min() > 0.1


def test_decoder_only_training_leaves_token_ids_as_they_are():
    torch.manual_seed(0)
    model = VQTokenizer(tiny().tokenizer)
    frames = torch.randint(256, (4, 4, 16, 16, 3), dtype=torch.uint8)
    before, decoded = model.encode(frames), model.reconstruct(frames)
    parts = [p for name, p in model.named_parameters() if name.startswith(model.decoder_parts)]
    optimizer, losses = torch.optim.AdamW(parts, lr=0.01), []
    config = replace(SPRITES, revive_after=20)
    for _ in range(25):  # longer than revive_after
        loss, _ = model.loss({"frames": frames}, config, decoder_only=True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert torch.equal(model.encode(frames), before)
    assert not torch.equal(model.reconstruct(frames), decoded)


def test_frames_of_128_pixels_work():
    config = small(frame_size=128).tokenizer
    coder = replace(config.transformer, dim=16, num_layers=1, num_heads=1, head_dim=16)
    model = build_tokenizer(replace(config, transformer=coder)).eval()
    frames = torch.randint(256, (1, 2, 128, 128, 3), dtype=torch.uint8)
    assert model.encode(frames).shape == (1, 2, 256)
    assert model.reconstruct(frames).shape == frames.shape
