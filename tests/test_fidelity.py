"""Fidelity: a world whose answer is known gets exactly the scores it must have."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.dreams.events import Found, cut, find_events, matched
from benchmarks.dreams.horizon import measure_horizon
from benchmarks.dreams.long_dream import dream_long
from benchmarks.dreams.measure import Amounts, measure
from benchmarks.dreams.player import player_survival
from benchmarks.dreams.scores import dream_clips, other_actions, score
from benchmarks.dreams.survival import survival
from genie_gym.collect.command import CollectConfig, collect
from genie_gym.evaluation.dreamer import Dreamer
from genie_gym.evaluation.metrics import BEST
from genie_gym.evaluation.windows import Windows, draw_windows
from tests.bare_procgen import needs_procgen
from tests.known_world import SHADE, KnownWorld
from tests.square_episodes import write_episodes
from tests.square_walks import ACTIONS, SEED, STEPS, where, windows_of
from tests.square_world import play
from world_models.episodes import EpisodeDataset


def scores_of(world, windows, mode="stream"):
    clips, _ = dream_clips(Dreamer(world, mode, batch_size=7), windows, len(ACTIONS), SEED)
    return score(clips)


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


def test_survival_knows_pictures_of_the_game_from_others(tmp_path):
    real = EpisodeDataset(write_episodes(tmp_path / "data", num=32, length=60))
    others = EpisodeDataset(write_episodes(tmp_path / "other", num=40, length=200)).select(
        where=lambda info: info.index >= 36
    )
    played = torch.stack([torch.from_numpy(others.frames(i, 0, 200)) for i in range(4)])
    smeared = played.clone()
    smeared[:, 100:, 6:10] = 160  # a bar that the game does not have
    half = played.clone()
    half[2:, 50:] //= 2
    gone = played.clone()
    gone[:2, 100:] = 60  # the square has vanished
    dreams = {(1, 1, 1): played, (1, 1, 0): smeared, (1, 0.5, 0.5): half, (1, 1, 0.5): gone}
    for expected, dream in dreams.items():
        found = survival(dream, real)
        assert found is not None
        figures = found.figures()
        assert tuple(figures[f"survival_{mark}"] for mark in (50, 100, 200)) == expected
        assert figures["survival_real"] == 1
    assert "survival_200" not in survival(played[:, :150], real).figures()
    assert survival(played, real.select(where=lambda info: info.index < 3)) is None


def test_survival_is_left_out_of_games_where_anything_can_be_anywhere(tmp_path):
    real = EpisodeDataset(write_episodes(tmp_path / "data", num=32, length=60))

    def plain(frames):  # one random colour per frame: shuffling and blurring change nothing
        generator = torch.Generator().manual_seed(len(frames))
        colours = torch.randint(256, (len(frames), 1, 1, 3), generator=generator)
        return colours.to(torch.uint8).expand_as(frames)

    played = torch.from_numpy(real.frames(0, 0, 60))[None]
    assert survival(played, real) is not None
    assert survival(played, real, plain) is None


def test_longer_dreams_are_scored_frame_by_frame(episodes):
    """Frame t is 2 t grey levels too bright, everywhere but in the square's full red."""
    noise = 2
    found = measure_horizon(Dreamer(KnownWorld(noise=noise)), episodes, num=8, prompt=2, seed=SEED)
    assert found.horizons == (1, 10, 25), "the longest episode has 51 frames"
    bright = [(256 * 3 - 16) / (256 * 3) * (noise * t / 255) ** 2 for t in found.horizons]
    assert found.scores["psnr"] == pytest.approx([decibels(mse) for mse in bright], abs=1e-3)
    windows = draw_windows(episodes, num=8, prompt=2, steps=25, seed=SEED)
    cells, last = where(windows.real), where(windows.prompt[:, -1:])
    copied = apart(cells, last).mean(0)[[0, 9, 24]].tolist()
    assert found.scores["psnr_copy"] == pytest.approx(copied, abs=1e-3)
    shade = decibels(SHADE**2 / 3 / 255**2)
    assert found.scores["psnr_ceiling"] == pytest.approx([shade] * 3, abs=1e-3)
    assert found.figures()["horizon_psnr_25"] == found.scores["psnr"][2]
    perfect = measure_horizon(Dreamer(KnownWorld()), episodes, num=8, prompt=2, seed=SEED)
    assert perfect.scores["psnr"] == perfect.scores["moving_psnr"] == [BEST] * 3


def test_measure_brings_it_all_together(episodes):
    amounts = Amounts(prompt=2, steps=STEPS, windows=8, long_dreams=2, long_frames=100)
    said: list[str] = []
    measured = measure(Dreamer(KnownWorld()), episodes, ACTIONS, amounts, say=said.append)
    figures = measured.figures()
    assert figures["psnr"] == BEST and figures["reward_recall"] == 1 and figures["windows"] == 8
    assert figures["stability_frames"] == 100 and len(said) == 4
    assert figures["horizon_psnr_25"] == BEST > figures["horizon_psnr_copy_25"]
    assert figures["survival_50"] == figures["survival_100"] == figures["survival_real"] == 1
    start = where(measured.windows.prompt[:1, -1]).expand(5, 2)
    held = play(start, torch.arange(5)[:, None].expand(5, STEPS))[0][:, 1:]
    assert where(measured.held).equal(held)
    paper = measure(Dreamer(KnownWorld(), "one_go"), episodes, ACTIONS, amounts, say=said.append)
    assert paper.long is None and not paper.events and paper.figures()["psnr"] == BEST


@needs_procgen
def test_the_player_of_coinrun_survives_whole_and_in_its_place(tmp_path):
    config = CollectConfig(
        env="Procgen/CoinRun-v0", out=tmp_path, policy="agents.experts:coinrun", episodes=64
    )
    assert collect(config) == 0
    real = EpisodeDataset(tmp_path)
    unseen = real.select(where=lambda info: info.index % 2 == 1)
    parts = [unseen.frames(i, 0, 16) for i in range(len(unseen)) if unseen.num_frames[i] >= 16]
    frames = torch.from_numpy(np.concatenate(parts))
    played = frames[: len(frames) // 200 * 200].unflatten(0, (-1, 200))
    hidden = played.clone()
    hidden[:, 50:, 30:37, 30:36] = hidden[:, 50:, :1, :1]
    for dream, most in ((played.roll(4, 2), 0.1), (hidden, 0.1), (played, 1)):
        found = player_survival(dream, real)
        assert found is not None
        figures = found.figures()
        assert figures["player_survival_real"] > 0.95
        assert figures["player_survival_200"] <= most
    assert figures["player_survival_100"] > 0.95, "of the real frames"
    assert player_survival(played, real.select(where=lambda info: info.index < 2)) is None
