"""What fidelity is measured with, part by part: frame scores, FID, held-out episodes, dreamers."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from benchmarks.dreams import heldout
from benchmarks.dreams.fid import FidUnavailableError, frechet_distance, inception
from benchmarks.dreams.measure import Amounts, measure
from genie_gym.actions import ActionSet
from genie_gym.evaluation.dreamer import Dreamer
from genie_gym.evaluation.metrics import BEST, differing, frame_psnr, frame_ssim
from genie_gym.evaluation.unseen import unseen_levels
from tests.square_walks import ACTIONS, STEPS, where, windows_of
from tests.square_world import play
from world_models import presets
from world_models.inference.world import WorldModel
from world_models.worlds.card import WorldCard


def test_frame_scores_are_those_of_torchmetrics():
    torch.manual_seed(0)
    a, b = torch.randint(256, (2, 2, 3, 20, 20, 3), dtype=torch.uint8)
    pixels = [x.float().movedim(-1, -3) / 255 for x in (a, b)]
    for i in range(2):
        for j in range(3):
            pair = [x[i, j][None] for x in pixels]
            psnr = peak_signal_noise_ratio(*pair, data_range=1.0)
            assert frame_psnr(a, b)[i, j] == pytest.approx(float(psnr), abs=1e-4)
            ssim = structural_similarity_index_measure(*pair, data_range=1.0)
            assert frame_ssim(a, b)[i, j] == pytest.approx(float(ssim), abs=1e-5)
    assert frame_psnr(a, a).eq(BEST).all()
    nowhere = torch.zeros(2, 3, 20, 20, dtype=torch.bool)
    assert frame_psnr(a, b, nowhere).isnan().all()
    assert (
        differing(a, a).sum() == 0 and differing(a, a ^ 8).all() and not differing(a, a ^ 4).any()
    )


def test_fid_is_the_distance_of_two_gaussians():
    """One feature, the mean red: FID is then (difference of means)^2 + (of deviations)^2."""

    class Red(torch.nn.Module):
        num_features = 1

        def forward(self, images):
            assert images.shape[1:] == (3, 299, 299) and images.dtype == torch.uint8
            return images[:, 0].float().mean((1, 2))[:, None]

    torch.manual_seed(0)
    red = [torch.randint(low, high, (4, 10)) for low, high in ((0, 100), (50, 250))]
    clips = [r[..., None, None, None].expand(4, 10, 8, 8, 3).to(torch.uint8) for r in red]
    means, deviations = ([f(r.double().flatten()) for r in red] for f in (torch.mean, torch.std))
    expected = (means[0] - means[1]) ** 2 + (deviations[0] - deviations[1]) ** 2
    assert frechet_distance(Red(), *clips) == pytest.approx(float(expected), rel=1e-3)
    assert frechet_distance(Red(), clips[0], clips[0]) == pytest.approx(0, abs=1e-3)


def test_fid_says_why_it_is_not_available(tmp_path):
    with pytest.raises(FidUnavailableError, match="no weights given"):
        inception(None)
    with pytest.raises(FidUnavailableError, match="no file"):
        inception(tmp_path / "weights.pth")
    torch.save(SimpleNamespace(pickled=True), tmp_path / "weights.pth")
    with pytest.raises(FidUnavailableError, match="contains no Inception weights"):
        inception(tmp_path / "weights.pth")


CARD = WorldCard(
    name="Toy",
    action_set=ACTIONS.name,
    action_meanings=ACTIONS.meanings,
    env_id="Procgen/CoinRun-v0",
    tokenizer={"frame_size": 16},
)


def test_held_out_levels_are_all_those_after_the_trained_ones():
    levels = replace(CARD, env_kwargs={"num_levels": 200, "start_level": 50, "use_backgrounds": 0})
    assert unseen_levels(levels) == {
        "start_level": 250,
        "num_levels": 2**31 - 1 - 250,
        "use_backgrounds": 0,
    }
    assert unseen_levels(replace(CARD, env_kwargs={"num_levels": 0})) == {"num_levels": 0}


def test_a_seed_that_was_trained_on_is_refused(tmp_path):
    card = replace(CARD, provenance={"data": {"seeds": [0, 7]}})
    with pytest.raises(ValueError, match="on episodes with seed 7: use another --play-seed"):
        heldout.collected(card, episodes=1, max_steps=5, seed=7, cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_stored_episodes_must_fit_the_world(episodes):
    card = replace(CARD, env_id="Test/Square-v0")
    assert len(heldout.stored(card, episodes.path, "all")) == len(episodes)
    with pytest.raises(ValueError, match="split 'test'.*--split all"):
        heldout.stored(CARD, episodes.path, "test")
    with pytest.raises(ValueError, match=r"shape \(16, 16, 3\), but Toy expects \(64, 64, 3\)"):
        heldout.stored(replace(card, tokenizer={"frame_size": 64}), episodes.path, "all")
    with pytest.raises(ValueError, match="has the actions STAY.*Toy needs JUMP"):
        heldout.stored(replace(card, action_meanings=("JUMP",)), episodes.path, "all")


def test_windows_are_of_one_episode_and_in_order(episodes):
    windows = windows_of(episodes, prompt=3)
    assert windows.prompt.shape[1] == 3 and windows.real.shape[1] == STEPS == windows.num_steps
    cells = where(windows.frames)
    again = play(cells[:, 0], windows.actions)[0]
    assert cells.equal(again)
    assert np.array_equal(windows.dreamed_actions, windows.actions[:, 2:])


@pytest.fixture(scope="module")
def learned() -> WorldModel:
    """A real world model of random weights, with latent actions."""
    torch.manual_seed(0)
    world = presets.build(presets.tiny(num_actions=3), latent_action=True).eval()
    with torch.no_grad():
        for name, weight in world.dynamics.named_parameters():
            if "action" in name:
                weight.mul_(30)  # so that actions matter without training
    return world


@pytest.mark.parametrize("mode", ["stream", "autoregressive", "one_go"])
def test_replacing_the_last_action_equals_dreaming_once_for_each(learned, episodes, mode):
    """The stream branches off a state; here each frame is dreamed from the start."""
    few = windows_of(episodes).rows(torch.arange(4))
    windows = few.with_latent_actions(learned.latent_action)
    dreamer = Dreamer(learned, mode, batch_size=3)
    others = (windows.dreamed_actions + 1) % 3
    found = dreamer.last_replaced(windows.prompt, windows.actions, others, windows.seeds)
    told_apart = False
    for t in range(STEPS):
        actions = windows.actions.clone()
        actions[:, 1 + t] = others[:, t]
        frames = dreamer.dream(windows.prompt, actions, windows.seeds).frames[:, t]
        assert found[:, t].equal(frames)
        true = dreamer.dream(windows.prompt, windows.actions, windows.seeds).frames[:, t]
        told_apart |= not frames.equal(true)
    assert told_apart


@pytest.mark.parametrize("mode", ["stream", "autoregressive", "one_go"])
def test_a_world_of_latent_actions_is_given_those_of_the_real_frames(learned, episodes, mode):
    latent = learned.latent_action
    amounts = Amounts(prompt=2, steps=STEPS, windows=4, long_dreams=1, long_frames=100)
    actions = ActionSet(name="latent-3", meanings=("A", "B", "C"))
    measured = measure(Dreamer(learned, mode), episodes, actions, amounts, say=lambda line: None)
    windows = measured.windows
    assert windows.actions.equal(latent.actions(windows.frames))
    assert measured.held.shape == (3, STEPS, 16, 16, 3) and not measured.events
    assert (measured.long is not None) == (mode == "stream")
    assert all(math.isfinite(value) for value in measured.figures().values())
