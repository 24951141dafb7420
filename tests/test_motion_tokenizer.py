"""Motion tokens: what moved is found and exact, what is new is decoded from a residual."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from world_models.model.reconstruction import ReconstructionLossConfig
from world_models.parts import build_tokenizer
from world_models.pixels import to_float
from world_models.presets import tiny
from world_models.tokenizers.motion import displacement
from world_models.tokenizers.motion.displacement import (
    DISPLACEMENTS,
    REACH,
    STILL,
    displace,
    match,
)
from world_models.tokenizers.motion.residual_vq import ResidualVQConfig
from world_models.tokenizers.motion.tokenizer import MotionTokenizer

PATCH, SIZE = 8, 32
LOSS = ReconstructionLossConfig(revive_after=20)


def picture(seed: int = 0) -> Tensor:
    return torch.rand(1, 1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def number(down: int, right: int) -> int:
    return (down + REACH) * (2 * REACH + 1) + right + REACH


def config(**changes: object) -> ResidualVQConfig:
    return ResidualVQConfig(
        frame_size=SIZE,
        patch=PATCH,
        transformer=replace(tiny().tokenizer.transformer, temporal=False),
        num_codes=DISPLACEMENTS + 32,
        **changes,
    )


def tokenizer(**changes: object) -> MotionTokenizer:
    torch.manual_seed(0)
    return build_tokenizer(config(**changes)).eval()


def scrolling(num_frames: int, step: tuple[int, int]) -> Tensor:
    """A texture that scrolls by ``step`` (down, right) per frame, uint8 ``(1, T, H, W, 3)``."""
    world = torch.randint(256, (96, 96, 3), dtype=torch.uint8)
    views = [world[48 - step[0] * t :, 48 - step[1] * t :][:SIZE, :SIZE] for t in range(num_frames)]
    return torch.stack(views)[None]


@pytest.mark.parametrize("down, right", [(0, 0), (3, -2), (-REACH, REACH)])
def test_a_patch_is_found_where_it_was(down, right):
    previous = picture()
    now = torch.roll(previous, (-down, -right), (-2, -1))
    found = match(now, previous, PATCH)
    inner = found.displacement.view(4, 4)[1:3, 1:3]  # the others may have left the picture
    assert (inner == number(down, right)).all()
    again = displace(previous, found.displacement, PATCH)
    assert torch.equal(again[..., 8:24, 8:24], now[..., 8:24, 8:24])
    assert found.error.view(4, 4)[1:3, 1:3].max() < 1e-6


def test_the_error_is_that_of_the_displaced_patch():
    now, previous = picture(1), picture(2)
    found = match(now, previous, PATCH)
    error = (displace(previous, found.displacement, PATCH) - now).square()
    per_patch = error[0, 0].mean(0).view(4, 8, 4, 8).mean((1, 3)).flatten()
    torch.testing.assert_close(found.error[0, 0], per_patch, atol=1e-5, rtol=1e-4)
    still = (now - previous).square()[0, 0].mean(0).view(4, 8, 4, 8).mean((1, 3)).flatten()
    assert (found.error[0, 0] <= still + 1e-4).all()


def test_of_equally_good_displacements_a_patch_takes_the_most_common():
    previous = picture()
    previous[..., :8, :] = 0.5  # plain sky, which could have come from anywhere
    assert (match(previous, previous, PATCH).displacement == STILL).all()
    now = torch.roll(previous, -2, -1)
    found = match(now, previous, PATCH).displacement.view(4, 4)
    assert (found[:, :3] == number(0, 2)).all()


def test_a_camera_between_pixels_is_one_displacement_everywhere():
    world = torch.rand(1, 3, SIZE + 8, SIZE + 8, generator=torch.Generator().manual_seed(3))
    world = torch.nn.functional.avg_pool2d(world, 2, stride=1)[None]  # smooth, as games are
    previous = world[..., 2:34, 2:34].clone()
    now = 0.8 * world[..., 4:36, 2:34] + 0.2 * world[..., 5:37, 2:34]  # 2.2 pixels down
    previous[..., 8:16, 8:24] = now[..., 8:16, 8:24] = (picture() > 0.5).float()[..., 8:16, 8:24]
    found = match(now, previous, PATCH, threshold=0.01).displacement.view(4, 4)
    assert (found[1, 1:3] == STILL).all()  # glaring, but not the camera
    assert (found[2] == number(2, 0)).all() and (found[:3, [0, 3]] == number(2, 0)).all()


def test_a_small_sprite_does_not_move_along_with_the_rest_of_its_patch():
    previous = picture() * 0.2
    now = torch.roll(previous, -2, -1)
    for frame in (now, previous):
        frame[..., 8:16, 8:16] = 0.1  # a plain patch, and in it something light that stays
        frame[..., 8:10, 8:10] = 0.4
    found = match(now, previous, PATCH, threshold=0.01).displacement.view(4, 4)
    assert found[2, 2] == number(0, 2)
    assert found[1, 1] == STILL


def test_a_patch_that_moves_unlike_the_rest_stays_if_that_is_nearly_as_good():
    previous = torch.full((1, 1, 3, SIZE, SIZE), 0.5)
    previous[..., 8:16, 16:24] = 0.518
    now = previous.clone()
    now[..., 8:16, 8:16] = 0.6  # a little nearer to what is 7 pixels to the right
    assert match(now, previous, PATCH).displacement.view(4, 4)[1, 1] == STILL
    previous[..., 8:16, 16:24] = now[..., 8:16, 16:24] = 0.6  # much nearer
    assert match(now, previous, PATCH).displacement.view(4, 4)[1, 1] == number(0, 7)


def test_mixed_precision_finds_the_same():
    now, previous = picture(1), picture(2)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = match(now, previous, PATCH)
    exact = match(now, previous, PATCH)
    assert torch.equal(mixed.displacement, exact.displacement)
    assert torch.equal(mixed.error, exact.error)


def test_patches_are_correlated_alike_by_convolution_and_unfolded() -> None:
    strips, patches = torch.rand(6, 3, 4 + 2 * REACH, 16 + 2 * REACH), torch.rand(6, 4, 3, 4, 4)
    folded, unfolded = (
        displacement._correlate(strips, patches, unfold=unfold) for unfold in (False, True)
    )
    expected = (patches[5, 2] * strips[5, :, 3:7, 9:13]).sum()
    assert torch.allclose(folded, unfolded, atol=1e-5)
    assert torch.allclose(unfolded[5, 2, 3, 9], expected)


def test_scrolling_is_exact_before_any_training_and_one_token():
    torch.manual_seed(3)
    frames = scrolling(4, (0, 2))
    model = tokenizer()
    tokens, shown = model.follow(frames)
    assert (tokens[:, 0] == STILL).all() and torch.equal(shown[:, 0], frames[:, 0])
    inner = tokens.view(1, 4, 4, 4)[:, 1:, :, 1:]
    assert (inner == number(0, -2)).all()
    assert torch.equal(shown[:, 1, :, 8:], frames[:, 1, :, 8:])


def test_replacing_is_never_worse_than_moving():
    torch.manual_seed(4)
    frames = torch.randint(256, (2, 3, SIZE, SIZE, 3), dtype=torch.uint8)
    replacing, moving = tokenizer(threshold=0.0), tokenizer(threshold=1e9)
    for now, previous in zip(frames.unbind(1)[1:], frames.unbind(1)[:-1], strict=True):
        errors = []
        for model in (replacing, moving):
            tokens, _ = model.encode_step(now, model.empty_cache(2), previous)
            shown, _ = model.decode_step(tokens, model.empty_cache(2), previous)
            errors.append((shown.float() - now).square().mean())
        assert errors[0] <= errors[1]


def test_new_things_are_learned_and_shown():
    """Squares of two colours appear on grey: nothing like them was there before."""
    model = tokenizer().train()
    grey = torch.full((8, 1, SIZE, SIZE, 3), 128, dtype=torch.uint8)

    def clips() -> Tensor:
        new = grey.clone()
        colours = torch.tensor([[250, 20, 20], [20, 20, 250]]).repeat(4, 1)
        for row, colour in zip(new, colours, strict=True):
            y, x = torch.randint(4, (2,)) * PATCH
            row[:, y : y + PATCH, x : x + PATCH] = colour.byte()
        return torch.cat((grey, new), 1)

    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(150):
        loss, _ = model.loss({"frames": clips()}, LOSS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    frames = clips()
    frames = torch.cat((frames, frames[:, -1:], frames[:, -1:]), 1)
    tokens, shown = model.eval().follow(frames)
    assert (tokens[:, 2:] == STILL).all()  # shown once is enough
    assert ((tokens[:, 1] >= DISPLACEMENTS).sum(1) == 1).all()  # the new square, and nothing else
    red, blue = tokens[0::2, 1].amax(1), tokens[1::2, 1].amax(1)
    assert not set(red.tolist()) & set(blue.tolist())
    assert (shown.int() - frames.int()).abs().max() < 40


ONE_OF_TWO = """
from datetime import timedelta
import torch
import torch.distributed as dist
from tests.test_motion_tokenizer import ReconstructionLossConfig, SIZE, tokenizer

dist.init_process_group("gloo", timeout=timedelta(seconds=20))
for lively in range(2):
    model = tokenizer().train()
    codebook = model.residual.quantizer.codebook
    before = codebook.detach().clone()
    frames = torch.zeros(2, 4, SIZE, SIZE, 3, dtype=torch.uint8)
    if dist.get_rank() == lively:
        frames.random_(256)
    loss, _ = model.loss({"frames": frames}, ReconstructionLossConfig(revive_after=1))
    loss.backward()
    assert loss.isfinite() and codebook.grad.isfinite().all()
    assert model.residual.quantizer.unused.max() == (0 if lively == 0 else 4), "four frames"
    theirs = codebook.detach().clone()
    dist.broadcast(theirs, 0)
    assert torch.equal(codebook, theirs)
    assert torch.equal(codebook, before) == (lively == 1), "only the first process offers vectors"
dist.destroy_process_group()
"""


def test_a_process_that_replaces_nothing_keeps_step_with_one_that_does(tmp_path):
    script = tmp_path / "one_of_two.py"
    script.write_text(ONE_OF_TWO)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    torchrun += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", str(script)]
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    subprocess.run(torchrun, cwd=root, env=environment, check=True, timeout=100)


def test_what_stays_while_the_picture_scrolls_is_blended_over_it():
    """A player in the middle, as a camera shows it: no displacement is right for its patches."""
    model, draw = tokenizer().train(), torch.Generator().manual_seed(1)

    def clips(num: int) -> Tensor:
        worlds = torch.rand(num, 3, 56, 56, generator=draw) * 160
        worlds = torch.nn.functional.avg_pool2d(worlds, 3, stride=1)
        steps = torch.randint(1, 4, (num,), generator=draw).tolist()
        frames = torch.stack(
            [
                torch.stack([world[:, 8 + s * t :, 8:][:, :SIZE, :SIZE] for t in range(4)])
                for world, s in zip(worlds, steps, strict=True)
            ]
        )
        frames[..., 13:19, 13:19] = torch.tensor([250.0, 240.0, 30.0])[:, None, None]
        return frames.byte().movedim(2, -1)

    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(120):
        loss, _ = model.loss({"frames": clips(8)}, LOSS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    frames = clips(32)
    tokens, shown = model.eval().follow(frames)
    assert (tokens[:, 1, [5, 6, 9, 10]] >= DISPLACEMENTS).float().mean() > 0.8
    previous, now = (x[:, None].movedim(-1, 2) / 255 for x in frames[:, :2].unbind(1))
    moved = displace(previous, match(now, previous, PATCH).displacement, PATCH)
    moved = moved.squeeze(1).movedim(1, -1)
    errors = [
        (picture - frames[:, 1] / 255)[:, 8:24, 8:24].square().mean()
        for picture in (shown[:, 1] / 255, moved)
    ]
    assert errors[0] < errors[1] / 2


def followed(num_frames: int, seed: int) -> Tensor:
    """A camera over soft scenery, a square in the middle that stays, uint8 ``(8, T, H, W, 3)``."""
    draw = torch.Generator().manual_seed(seed)
    worlds = torch.rand(8, 3, 96, 96, generator=draw) * 200
    worlds = torch.nn.functional.avg_pool2d(worlds, 3, stride=1)
    downs, rights = torch.randint(-3, 4, (2, 8), generator=draw)
    ways = list(enumerate(zip(downs.tolist(), rights.tolist(), strict=True)))
    frames = torch.stack(
        [
            torch.stack(
                [worlds[i, :, 32 - d * t :, 32 - r * t :][:, :SIZE, :SIZE] for i, (d, r) in ways]
            )
            for t in range(num_frames)
        ],
        1,
    )
    frames[..., 13:19, 13:19] = torch.tensor([250.0, 240.0, 30.0])[:, None, None]
    return frames.byte().movedim(2, -1)


def test_the_overlay_learns_what_stays_while_the_picture_scrolls():
    model = tokenizer(overlay=True)
    overlay = model.codec.overlay
    assert not overlay.layers().mask.any()
    for seed in range(40):
        overlay.watch(to_float(followed(4, seed)), 1e-3)
    expected = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    expected[13:19, 13:19] = True
    assert torch.equal(overlay.layers().mask, expected)


def test_the_overlay_is_neither_carried_off_nor_leaves_a_trail():
    model, moving = tokenizer(overlay=True, threshold=0.5), tokenizer(threshold=0.5)
    model.codec.overlay.votes[0, 13:19, 13:19] = 100
    frames = followed(6, 99)
    for x, until, whole in ((model, 6, True), (moving, 2, False)):
        tokens, shown = x.follow(frames[:, :until])
        assert (tokens < DISPLACEMENTS).all()  # nothing is replaced here
        assert torch.equal(x.decode(tokens, frames[:, :1]), shown)
        yellow = (shown[:, -1].int() - frames[0, 0, 15, 15].int()).abs().amax(-1) < 8
        assert bool(yellow[:, 13:19, 13:19].all()) == whole
        assert (yellow.sum((1, 2)) == 36).all()
    same = tokenizer(overlay=True)
    same.load_state_dict(model.state_dict())
    assert torch.equal(same.codec.overlay.layers().mask, model.codec.overlay.layers().mask)


def test_the_overlay_changes_nothing_where_nothing_scrolls():
    model, plain = tokenizer(overlay=True), tokenizer()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if "overlay" not in k})
    frames = scrolling(4, (0, 0))
    model.codec.overlay.votes[0, 13:19, 13:19] = 100
    assert all(
        torch.equal(a, b) for a, b in zip(model.follow(frames), plain.follow(frames), strict=True)
    )


def test_the_next_frames_correct_what_was_corrupted():
    model, patch, steps = tokenizer().eval(), 5, iter(range(6))
    frames = torch.full((1, 6, SIZE, SIZE, 3), 50, dtype=torch.uint8)
    frames[:, :, :, SIZE // 2 :] = 200  # the patch ends where this begins

    def corrupt(tokens: Tensor, previous: Tensor) -> Tensor:
        wrong = tokens.clone()
        if next(steps) == 2:
            wrong[0, patch] = number(0, 3)
        return wrong

    tokens, shown = model.follow(frames, corrupt=corrupt)
    off = (shown.float() - frames).square().mean((0, 2, 3, 4))
    assert (tokens[0, :3] == STILL).all()  # the tokens are right; what is shown is not
    assert not off[:2].any() and off[2] > 0 and off[3:].max() < off[2] / 2
    assert tokens[0, 3, patch] != STILL and (tokens[0, 4:] == STILL).all()


def test_what_comes_after_the_prompt_starts_from_its_last_real_frame():
    torch.manual_seed(5)
    frames = torch.randint(256, (2, 6, SIZE, SIZE, 3), dtype=torch.uint8)
    frames[:, 3:] = frames[:, 2:3]  # stands still from the third on
    model = tokenizer().eval()
    tokens, shown = model.follow(frames, num_prompt=3)
    assert not torch.equal(shown[:, 2], frames[:, 2])  # of an untrained decoder, but it is given:
    assert (tokens[:, 3:] == STILL).all() and torch.equal(shown[:, 3:], frames[:, 3:])
    assert torch.equal(model.decode(tokens, frames[:, :3]), shown)


def test_codes_of_near_displacements_are_alike():
    codes = tokenizer().codes()
    torch.testing.assert_close(codes.norm(dim=-1), torch.ones(len(codes)))
    near, far = (
        codes[number(1, 1)] @ codes[number(1, 2)],
        codes[number(1, 1)] @ codes[number(-4, 5)],
    )
    assert near > far + 0.3
    assert (codes[:DISPLACEMENTS] @ codes[:DISPLACEMENTS].T).fill_diagonal_(0).max() < 0.99


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: replace(config(), num_codes=DISPLACEMENTS), "num_codes"),
        (lambda: replace(config(), transformer=tiny().tokenizer.transformer), "temporal"),
    ],
)
def test_configurations_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_stands_still_stays_to_the_bit_in_bfloat16_too():
    model = tokenizer().to(torch.bfloat16)
    frames = torch.randint(256, (2, 1, SIZE, SIZE, 3), dtype=torch.uint8).expand(-1, 5, -1, -1, -1)
    tokens, shown = model.follow(frames)
    assert (tokens == STILL).all() and torch.equal(shown, frames)
