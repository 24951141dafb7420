"""The patch codebook: what is new is found there, and nothing else is made up."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from world_models.model.reconstruction import ReconstructionLossConfig
from world_models.parts import build_tokenizer
from world_models.tokenizers.motion.displacement import DISPLACEMENTS, STILL
from world_models.tokenizers.motion.patch_codebook import PatchCodebookConfig
from world_models.tokenizers.motion.tokenizer import CODE_DIM, MotionTokenizer
from world_models.training.token_cache import fingerprint
from world_models.weights import load_weights
from world_models.worlds.storage import pack, unpack

PATCH, SIZE, NUM = 8, 32, 12
CONFIG = PatchCodebookConfig(
    frame_size=SIZE, patch=PATCH, num_codes=DISPLACEMENTS + NUM, threshold=2e-4
)
LOSS = ReconstructionLossConfig(revive_after=20)


def sprites() -> Tensor:
    """Eight patches of two colours each, uint8 ``(8, PATCH, PATCH, 3)``."""
    draw = torch.Generator().manual_seed(5)
    colours = torch.randint(256, (8, 2, 3), generator=draw)
    shape = torch.rand(8, PATCH, PATCH, generator=draw) > 0.5
    first, second = colours[:, 0, None, None], colours[:, 1, None, None]
    return torch.where(shape[..., None], first, second).byte()


def clips(num: int, draw: torch.Generator) -> Tensor:
    """Grey, then a sprite somewhere on it, ``(num, 2, SIZE, SIZE, 3)``."""
    frames = torch.full((num, 2, SIZE, SIZE, 3), 128, dtype=torch.uint8)
    for frame in frames[:, 1]:
        kind, y, x = torch.randint(4 * 8, (3,), generator=draw).tolist()
        y, x = y % 4 * PATCH, x % 4 * PATCH
        frame[y : y + PATCH, x : x + PATCH] = sprites()[kind % 8]
    return frames


def trained(steps: int = 60) -> MotionTokenizer:
    torch.manual_seed(0)
    model, draw = build_tokenizer(CONFIG).train(), torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0)
    for _ in range(steps):
        loss, _ = model.loss({"frames": clips(8, draw)}, LOSS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def test_what_was_seen_before_is_shown_as_it_was():
    frames = clips(32, torch.Generator().manual_seed(2))
    tokens, shown = trained().follow(frames)
    replaced = tokens[:, 1] >= DISPLACEMENTS
    assert (replaced.sum(1) == 1).all() and (tokens[:, 1][~replaced] == STILL).all()
    assert (shown.int() - frames.int()).abs().max() <= 8
    assert len(set(tokens[:, 1].amax(1).tolist())) == 8  # a token for each sprite


def test_a_patch_in_use_stays_and_an_unused_one_is_replaced_by_what_is_shown_badly():
    model = trained()
    codebook = model.residual
    before = codebook.shown.weight.detach().clone()
    tokens, _ = model.follow(clips(64, torch.Generator().manual_seed(2)))
    used = torch.unique(tokens[tokens >= DISPLACEMENTS]) - DISPLACEMENTS
    model.train()
    frames = torch.full((8, 2, SIZE, SIZE, 3), 128, dtype=torch.uint8)
    frames[:, 1, :PATCH, :PATCH, 0] = 255  # nothing like the sprites
    for _ in range(30):
        model.loss({"frames": frames}, LOSS)
    after = codebook.shown.weight.detach()
    assert not torch.equal(after, before)
    new = frames[0, 1, :PATCH, :PATCH].reshape(-1) / 255
    assert (after == new).all(1).any()
    codebook.unused.fill_(0)
    kept = after.clone()
    model.loss({"frames": clips(8, torch.Generator().manual_seed(3))}, LOSS)
    assert torch.equal(codebook.shown.weight, kept) and len(used) == 8


def test_a_new_patch_is_found_at_once():
    torch.manual_seed(0)
    model, draw = build_tokenizer(CONFIG).train(), torch.Generator().manual_seed(1)
    before = model.residual.keys.clone()
    model.loss({"frames": clips(8, draw)}, LOSS)
    codebook = model.residual
    assert not torch.equal(codebook.keys, before)
    assert torch.equal(codebook.keys, codebook.shown.weight)


def test_without_revival_no_patch_is_replaced():
    torch.manual_seed(0)
    model, draw = build_tokenizer(CONFIG).train(), torch.Generator().manual_seed(1)
    before = model.residual.shown.weight.detach().clone()
    model.loss({"frames": clips(8, draw)}, ReconstructionLossConfig(revive_after=0))
    assert torch.equal(model.residual.shown.weight, before)


def test_a_patch_has_the_same_token_whatever_stands_beside_it():
    model, frames = trained(), clips(16, torch.Generator().manual_seed(4))
    frames = (frames.int() + torch.randint(-9, 10, frames.shape)).clamp(0, 255).byte()
    together = model.encode(frames)
    for row in range(16):
        assert torch.equal(model.encode(frames[row : row + 1])[0], together[row])


def test_decoder_only_training_leaves_token_ids_as_they_are():
    base = trained()
    tuned = build_tokenizer(CONFIG)
    tuned.load_state_dict(base.state_dict())
    tuned.train()
    frames = clips(16, torch.Generator().manual_seed(6))
    darker = (frames[:, 1].int() * 0.95).byte()  # the sprites are, by now
    frames[:, 1] = torch.where(frames[:, 1] == 128, frames[:, 1], darker)
    parts = [p for name, p in tuned.named_parameters() if name.startswith(tuned.decoder_parts)]
    optimizer = torch.optim.SGD(parts, lr=500.0)
    errors = []
    for _ in range(20):
        loss, _ = tuned.loss({"frames": frames}, LOSS, decoder_only=True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    assert errors[-1] < errors[0] / 2
    assert fingerprint(tuned) == fingerprint(base)
    assert torch.equal(tuned.eval().encode(frames), base.encode(frames))


def test_codes_tell_grey_from_nothing():
    model = build_tokenizer(CONFIG)
    model.residual.keys.fill_(0.5)
    assert model.codes().shape == (DISPLACEMENTS + NUM, CODE_DIM)
    torch.testing.assert_close(model.codes()[DISPLACEMENTS:].norm(dim=-1), torch.ones(NUM))


def test_alike_patches_have_alike_codes():
    model = trained()
    with torch.no_grad():
        keys = model.residual.keys
        keys[0], keys[1], keys[2] = 0.9, 0.85, 0.1
    codes = model.codes()
    torch.testing.assert_close(codes.norm(dim=-1), torch.ones(len(codes)))
    light, lighter, dark = codes[DISPLACEMENTS : DISPLACEMENTS + 3]
    assert light @ lighter > 0.99 > light @ dark


@pytest.mark.parametrize("storage", ["float32", "bfloat16", "int8"])
def test_stored_tokenizers_make_the_same_tokens(storage, tmp_path):
    model = trained()
    stored = build_tokenizer(CONFIG).eval()
    load_weights(stored, unpack(pack(model, storage)), tmp_path)
    frames = clips(8, torch.Generator().manual_seed(7))
    tokens, shown = model.follow(frames)
    again, reshown = stored.follow(frames)
    assert torch.equal(again, tokens)
    assert (reshown.int() - shown.int()).abs().max() <= 2


@pytest.mark.parametrize(
    "changes, message", [({"num_codes": DISPLACEMENTS}, "num_codes"), ({"patch": 7}, "multiple")]
)
def test_configurations_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        PatchCodebookConfig(**changes)


def test_in_bfloat16_it_shows_the_same_but_for_rounding():
    model, frames = trained(), clips(16, torch.Generator().manual_seed(8))
    tokens, shown = model.follow(frames)
    model.to(torch.bfloat16)
    again, reshown = model.follow(frames)
    assert torch.equal(again, tokens)
    assert (reshown.int() - shown.int()).abs().max() <= 3
