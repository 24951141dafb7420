"""Fidelity: a world whose answer is known gets exactly the scores it must have."""

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
from benchmarks.dreams.dreamer import Dreamer
from benchmarks.dreams.events import Found, cut, find_events, matched
from benchmarks.dreams.fid import FidUnavailableError, frechet_distance, inception
from benchmarks.dreams.heldout import Windows, draw_windows, unseen_levels
from benchmarks.dreams.long_dream import dream_long
from benchmarks.dreams.measure import Amounts, measure
from benchmarks.dreams.scores import dream_clips, other_actions, score
from genie_gym.actions import ActionSet
from tests.known_world import SHADE, KnownWorld
from tests.square_world import MOVES, draw, play
from world_models import presets
from world_models.card import WorldCard
from world_models.episodes import Episode, EpisodeDataset, EpisodeInfo, EpisodeWriter
from world_models.metrics import BEST, differing, frame_psnr, frame_ssim
from world_models.world import WorldModel

ACTIONS = ActionSet(name="square-5", meanings=("STAY", "RIGHT", "LEFT", "DOWN", "UP"))
NUM, STEPS, SEED = 24, 6, 3


@pytest.fixture(scope="module")
def episodes(tmp_path_factory) -> EpisodeDataset:
    """Random walks of the square, each over when it reaches the goal."""
    path = tmp_path_factory.mktemp("square")
    torch.manual_seed(0)
    with EpisodeWriter(path) as writer:
        for index in range(40):
            actions = torch.randint(len(MOVES), (1, 50))
            cells, rewards = play(torch.randint(3, (1, 2)), actions)
            won = rewards[0].nonzero()
            length = int(won[0]) + 1 if len(won) else 50
            info = EpisodeInfo(
                env_id="Test/Square-v0",
                action_set=ACTIONS.name,
                action_meanings=ACTIONS.meanings,
                index=index,
            )
            episode = Episode(
                frames=draw(cells[0, : length + 1]).numpy(),
                actions=actions[0, :length].numpy(),
                rewards=rewards[0, :length].numpy(),
                terminated=len(won) > 0,
                truncated=not len(won),
                info=info,
            )
            writer.add(episode)
    return EpisodeDataset(path)


def windows_of(episodes, prompt: int = 2) -> Windows:
    return draw_windows(episodes, num=NUM, prompt=prompt, steps=STEPS, seed=SEED)


def scores_of(world, windows, mode="stream"):
    clips, _ = dream_clips(Dreamer(world, mode, batch_size=7), windows, len(ACTIONS), SEED)
    return score(clips)


def where(frames: torch.Tensor) -> torch.Tensor:
    """The square's cell ``(..., 2)``, read off the frames."""
    index = (frames[..., ::4, ::4, 0] == 255).flatten(-2).int().argmax(-1)
    return torch.stack((index // 4, index % 4), -1)


def decibels(mse: float) -> float:
    return min(BEST, -10 * math.log10(mse)) if mse else BEST


TWO_CELLS = decibels(2 * 16 * (235**2 + 180**2 + 40**2) / (256 * 3 * 255**2))


def apart(cells: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """PSNR of frames that show the square at `cells` and at `others`, known without drawing."""
    same = (cells == others).all(-1)
    return torch.where(same, torch.tensor(BEST), torch.tensor(TWO_CELLS))


def check_exact(episodes, mode="stream") -> None:
    """Every score of a dream that is right but for growing brightness."""
    windows, noise = windows_of(episodes), 3
    last, real = where(windows.frames[:, 1]), where(windows.frames[:, 2:])
    found = scores_of(KnownWorld(noise=noise), windows, mode)
    for t in range(1, STEPS + 1):
        bright = (256 * 3 - 16) / (256 * 3) * (noise * t / 255) ** 2  # the square's red is full
        assert found.curve("psnr")[t - 1] == pytest.approx(decibels(bright), abs=1e-3)
    expected = apart(real, last[:, None])
    assert torch.allclose(found.frames["psnr_copy"], expected, atol=1e-3)
    shade = decibels(SHADE**2 / 3 / 255**2)
    assert found.mean("psnr_ceiling") == pytest.approx(shade, abs=1e-3)

    found = scores_of(KnownWorld(), windows, mode)
    assert found.mean("psnr") == BEST and found.mean("ssim") == pytest.approx(1, abs=1e-5)
    actions = windows.actions[:, 1:]
    random, others = other_actions(actions, len(ACTIONS), SEED)
    astray = apart(real, play(last, random)[0][:, 1:])
    assert torch.allclose(found.frames["delta_psnr_genie"], BEST - astray, atol=1e-3)
    before = torch.cat((last[:, None], real[:, :-1]), 1)
    wrong = play(before.flatten(0, 1), others.flatten()[:, None])[0][:, 1].view(before.shape)
    astray = apart(real, wrong)
    assert torch.allclose(found.frames["delta_psnr_last_action"], BEST - astray, atol=1e-3)
    assert 0 < found.mean("delta_psnr_last_action") < found.mean("delta_psnr_genie")


@pytest.mark.parametrize("mode", ["stream", "autoregressive", "one_go"])
def test_every_score_of_a_known_dream_is_exact(episodes, mode):
    check_exact(episodes, mode)


SHIFTED = {
    "real frames begin one early": ("real", lambda w: w.frames[:, w.num_prompt - 1 : -1]),
    "actions begin one early": ("actions", None),
    "the prompt ends one early": ("prompt", lambda w: w.frames[:, : w.num_prompt].roll(1, 1)),
}


@pytest.mark.parametrize("name", SHIFTED)
def test_scoring_that_is_off_by_one_would_be_noticed(episodes, monkeypatch, name):
    attribute, shifted = SHIFTED[name]
    if attribute == "actions":
        right = windows_of(episodes)
        wrong = replace(right, actions=right.actions.roll(1, 1))
        monkeypatch.setitem(globals(), "windows_of", lambda episodes: wrong)
    else:
        monkeypatch.setattr(Windows, attribute, property(shifted))
    with pytest.raises(AssertionError):
        check_exact(episodes)


@pytest.mark.parametrize("prompt", [1, 2, 4])
def test_a_dream_that_misses_the_first_action_is_not_perfect(episodes, prompt):
    windows = windows_of(episodes, prompt)
    assert scores_of(KnownWorld(), windows).mean("psnr") == BEST
    late = scores_of(KnownWorld(lag=1), windows)
    moved = (where(windows.real[:, 0]) != where(windows.prompt[:, -1])).any(-1)
    assert (late.frames["psnr"][:, 0] < BEST).equal(moved) and moved.any()


def test_a_dream_that_ignores_its_actions_has_no_delta(episodes):
    found = scores_of(KnownWorld(deaf=True), windows_of(episodes))
    for name in ("genie", "last_action"):
        assert not found.frames[f"delta_psnr_{name}"].any()
    assert found.frames["psnr"].equal(found.frames["psnr_copy"])


def test_changed_pixels_are_those_that_differ_from_the_prompt(episodes):
    windows = windows_of(episodes)
    found = scores_of(KnownWorld(deaf=True), windows)
    moved = (where(windows.real) != where(windows.prompt[:, -1:])).any(-1)
    changed = found.frames["changed_psnr"]
    assert (~changed.isnan()).equal(moved)
    wrong = decibels((235**2 + 180**2 + 40**2) / 3 / 255**2)
    assert changed[moved].tolist() == pytest.approx([wrong] * int(moved.sum()), abs=1e-3)
    before = torch.cat((windows.prompt[:, -1:], windows.real[:, :-1]), 1)
    just = (where(windows.real) != where(before)).any(-1)
    assert (~found.frames["moving_psnr"].isnan()).equal(just) and not just.equal(moved)


def test_calibration_is_one_when_the_unsure_frames_are_the_wrong_ones(episodes):
    found = scores_of(KnownWorld(noise=3), windows_of(episodes))
    assert found.calibration == pytest.approx(1, abs=0.03)  # equal errors differ by rounding
    assert math.isnan(found.calibration_within)  # the world is as unsure of all frames of a step


def test_figures_have_the_names_the_benchmark_promises(episodes):
    figures = scores_of(KnownWorld(noise=3), windows_of(episodes)).figures()
    for name in ("psnr", "psnr_copy", "psnr_ceiling", "ssim", "changed_psnr", "psnr_step6"):
        assert math.isfinite(figures[name])
    for name in ("psnr_genie", "psnr_last_action", "changed_psnr_genie"):
        assert math.isfinite(figures[f"delta4_{name}"])
    assert all(math.isfinite(value) for value in figures.values())


def events_of(episodes, world, tolerance=1, num=10_000):
    dreamer = Dreamer(world, batch_size=32)
    return find_events(dreamer, episodes, prompt=2, steps=5, num=num, tolerance=tolerance, seed=0)


def test_every_step_is_in_one_stretch(episodes):
    covered = {}
    for stretch in cut(episodes, prompt=2, steps=5, seed=0):
        for t in range(stretch.first, stretch.first + len(stretch.rewards)):
            assert covered.setdefault((stretch.episode, t), stretch) is stretch
    for index, num_frames in enumerate(episodes.num_frames):
        steps = sorted(t for episode, t in covered if episode == index)
        if steps:
            assert steps == list(range(steps[0], num_frames - 1)) and steps[0] <= 5


def test_known_rewards_and_ends_are_found_exactly(episodes):
    found = events_of(episodes, KnownWorld())
    ends = sum(s.ends for s in cut(episodes, prompt=2, steps=5, seed=0))
    assert ends > 10
    for name in ("reward", "termination"):
        figures = found[name].figures(name)
        assert figures[f"{name}_precision"] == figures[f"{name}_recall"] == 1
        assert figures[f"{name}_events"] == ends and figures[f"{name}_late_steps"] == 0


def test_late_events_count_within_the_tolerance_alone(episodes):
    late = events_of(episodes, KnownWorld(late=1))["termination"].figures("termination")
    assert late["termination_recall"] == late["termination_precision"] == 1
    assert late["termination_late_steps"] == 1
    strict = events_of(episodes, KnownWorld(late=1), tolerance=0)["termination"]
    assert strict.figures("termination")["termination_recall"] == 0


def test_a_sample_of_stretches_stands_for_all(episodes):
    everything = events_of(episodes, KnownWorld(deaf=True))["termination"]
    some = events_of(episodes, KnownWorld(deaf=True), num=30)["termination"]
    assert everything.hits == 0 and some.num_real < everything.num_real
    assert some.real == pytest.approx(everything.real)


def test_matching_uses_each_event_once():
    assert matched([2, 9], [3, 4, 9], 1) == [(2, 3), (9, 9)]
    assert matched([2, 3], [3], 1) == [(2, 3)]
    assert matched([5], [3, 7], 1) == []
    found = Found()
    found.add([4], [2, 4, 5], length=5, tolerance=0, weight=2.0)  # 5 is past the last real step
    assert found.figures("x") == {
        "x_events": 1,
        "x_precision": 0.5,
        "x_recall": 1,
        "x_late_steps": 0,
    }


def long_of(episodes, world):
    return dream_long(
        Dreamer(world),
        windows_of(episodes).rows(torch.arange(3)),
        ACTIONS,
        num_frames=200,
        marks=(0, 180),
        steps=5,
        seed=0,
    )


def test_long_dreams_that_live_and_obey(episodes):
    dream = long_of(episodes, KnownWorld())
    assert dream.frames.shape == (3, 200, 16, 16, 3)
    figures = dream.figures(4)
    assert figures["stability_contrast"] == pytest.approx(1, abs=0.01)
    assert figures["stability_flat"] == 0 and figures["stability_frozen"] < 0.5
    for mark in (0, 180):
        when = "late" if mark else "start"
        assert figures[f"stability_delta4_psnr_{when}"] > 10
        assert 0 < figures[f"stability_delta4_pixels_{when}"] <= 32
        start = (
            where(dream.frames[0, mark - 1]) if mark else where(windows_of(episodes).prompt[0, -1])
        )
        steps = torch.arange(5)[:, None].expand(5, 5)
        assert where(dream.held[mark]).equal(play(start.expand(5, 2), steps)[0][:, 1:])


def test_what_chance_does_is_not_obedience(episodes):
    """Frames of another seed differ in all pixels; no action can make them differ in more."""
    figures = long_of(episodes, KnownWorld(chance=9)).figures(4)
    assert figures["stability_delta4_pixels_late"] == figures["stability_delta4_pixels_start"] == 0


def test_long_dreams_that_are_frozen(episodes):
    figures = long_of(episodes, KnownWorld(deaf=True)).figures(4)
    assert figures["stability_frozen"] == 1 and figures["stability_motion"] == 0
    assert figures["stability_delta4_psnr_late"] == 0
    assert figures["stability_delta4_pixels_late"] == 0


def test_measure_brings_it_all_together(episodes):
    amounts = Amounts(prompt=2, steps=STEPS, windows=8, long_dreams=2, long_frames=100)
    said: list[str] = []
    measured = measure(Dreamer(KnownWorld()), episodes, ACTIONS, amounts, say=said.append)
    figures = measured.figures()
    assert figures["psnr"] == BEST and figures["reward_recall"] == 1 and figures["windows"] == 8
    assert figures["stability_frames"] == 100 and len(said) == 3
    start = where(measured.windows.prompt[:1, -1]).expand(5, 2)
    held = play(start, torch.arange(5)[:, None].expand(5, STEPS))[0][:, 1:]
    assert where(measured.held).equal(held)
    paper = measure(Dreamer(KnownWorld(), "one_go"), episodes, ACTIONS, amounts, say=said.append)
    assert paper.long is None and not paper.events and paper.figures()["psnr"] == BEST


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
    with pytest.raises(FidUnavailableError, match="holds no Inception weights"):
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
    with pytest.raises(ValueError, match="trained on episodes of seed 7: give another --play-seed"):
        heldout.collected(card, episodes=1, max_steps=5, seed=7, cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_stored_episodes_must_fit_the_world(episodes):
    card = replace(CARD, env_id="Test/Square-v0")
    assert len(heldout.stored(card, episodes.path, "all")) == len(episodes)
    with pytest.raises(ValueError, match="split 'test'.*--split all"):
        heldout.stored(CARD, episodes.path, "test")
    with pytest.raises(
        ValueError, match=r"frames \(16, 16, 3\), the world Toy takes \(64, 64, 3\)"
    ):
        heldout.stored(replace(card, tokenizer={"frame_size": 64}), episodes.path, "all")
    with pytest.raises(ValueError, match="has the actions STAY.*the world Toy JUMP"):
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
