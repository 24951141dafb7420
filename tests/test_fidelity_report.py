"""The fidelity benchmark on a trained world: its command, its numbers, its page in a browser."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from agents.returns import make_real
from benchmarks import fidelity
from benchmarks.dreams.exploits import has_rewards, look_for_exploits
from benchmarks.dreams.measure import Amounts
from benchmarks.dreams.rates import measure_rates
from benchmarks.page.charts import Line, dots, lines, ticks
from genie_gym.cli import main as cli
from tests.browser import rendered, visible_text
from world_models.episodes import EpisodeDataset
from world_models.worlds.card import WorldCard
from world_models.worlds.find import VARIABLE

SMALL = ["--episodes", "4", "--max-steps", "40", "--windows", "6", "--event-windows", "4"]
SMALL += ["--long-frames", "100", "--long-dreams", "1"]
PROMISED = (
    "psnr psnr_copy psnr_ceiling ssim delta4_psnr_genie delta4_psnr_last_action changed_psnr "
    "changed_psnr_copy changed_psnr_ceiling delta4_changed_psnr_genie stability_contrast "
    "stability_delta4_psnr_start stability_delta4_psnr_late frames_per_second "
    "rate_reward_dream_random rate_reward_real_random "
    "rate_ends_dream_sticky rate_ends_real_sticky"
).split()


@pytest.fixture(scope="module")
def result(coinrun_world, tmp_path_factory) -> Path:
    """A folder with everything the command writes."""
    out = tmp_path_factory.mktemp("fidelity")
    shutil.copytree(coinrun_world, out / "worlds" / "CoinRun")  # --record writes into its card
    command = ["bench", "fidelity", "GenieRedux/CoinRun-v0", *SMALL, "--record"]
    command += ["--json", str(out / "result.json"), "--html", str(out / "report.html")]
    run = subprocess.run(
        [sys.executable, "-m", "genie_gym.cli", *command, "--pictures", str(out)],
        env={**os.environ, VARIABLE: str(out / "worlds"), "XDG_CACHE_HOME": str(out)},
        capture_output=True,
        text=True,
        check=True,
    )
    (out / "stdout").write_text(run.stdout)
    return out


def test_the_command_prints_a_table_and_its_json(result):
    text = (result / "stdout").read_text()
    assert text.splitlines()[-1] == f"results: {result / 'result.json'}"
    printed = json.loads((result / "result.json").read_text())
    assert printed["benchmark"] == "fidelity" and "GenieRedux/CoinRun-v0" in printed["command"]
    for name in PROMISED:
        assert np.isfinite(printed["figures"][name]), name
    assert "survival_100" not in printed["figures"], "CoinRun scrolls"
    assert printed["figures"]["windows"] == 6
    assert re.search(r"FID \(lower is better\) +not available +no weights given", text)
    assert "copying (floor)" in text and "tokenizer (ceiling)" in text


def test_a_world_without_rewards_has_nothing_to_overpay(coinrun_world):
    card = WorldCard.read(coinrun_world)
    assert has_rewards(replace(card, rewards=(0.0, 10.0))) and has_rewards(
        replace(card, rewards=())
    )
    assert not has_rewards(replace(card, rewards=(0.0,)))


def test_the_levels_were_never_trained_on(result, coinrun_world):
    (played,) = (result / "genie-gym" / "held-out").iterdir()
    episodes = EpisodeDataset(played)
    assert len(episodes) == 4
    trained = WorldCard.read(coinrun_world)
    for entry in episodes.entries:
        kwargs = entry.info.extra["collection"]["env_kwargs"]
        assert kwargs["start_level"] == trained.env_kwargs["num_levels"] == 2
        assert kwargs["distribution_mode"] == trained.env_kwargs["distribution_mode"]
        assert entry.info.policy == "sticky"


def test_the_scores_are_in_the_card(result):
    figures = json.loads((result / "result.json").read_text())["figures"]
    scores = WorldCard.read(result / "worlds" / "CoinRun").scores
    assert scores["psnr"] == figures["psnr"] and scores["psnr_copy"] == figures["psnr_copy"]


def test_the_pictures(result):
    strip = Image.open(result / "strip.png")
    assert strip.height == 3 * 3 * (2 * 64 + 18) and strip.width > 10 * 2 * 64
    animation = Image.open(result / "dream.gif")
    assert animation.size == (2 * 4 * 64, 4 * 64) and animation.n_frames > 11
    control = Image.open(result / "control.png")
    assert control.height == 7 * (2 * 64 + 18)


def test_the_page_in_a_browser(result):
    """Scripts run without a complaint, the player plays, nothing is loaded from anywhere."""
    page = result / "report.html"
    html = page.read_text()
    assert not re.search(r"(src|href)=\"(?!data:)|url\(|@import|https?://", html)
    document, console = rendered(page)
    assert console == []
    text = visible_text(document)
    assert re.search(r"step \d+ of 10, after [A-Z-]+", text), "the player does not play"
    for words in (
        "How accurate are the dreams of CoinRun?",
        "Does it follow its actions?",
        "100 frames",
        "no weights given",
        "NOOP",
    ):
        assert words in text
    assert "nan" not in text.lower().split() and "None" not in text
    assert document.count("<option") == 6 and document.count("<svg") == 8


def test_the_page_as_it_looks(result, tmp_path):
    """Light and dark: text on ground, and both games drawn on their screens."""
    for scheme in (0, 1):
        shot = tmp_path / f"{scheme}.png"
        rendered(
            result / "report.html",
            f"--screenshot={shot}",
            "--window-size=1100,900",
            f"--blink-settings=preferredColorScheme={scheme}",
        )
        pixels = np.asarray(Image.open(shot).convert("RGB"))
        assert pixels.shape == (900, 1100, 3)
        ground = pixels[5, 5].mean()
        assert ground < 60 if scheme == 0 else ground > 220
        screens = pixels[520:800, 90:980]
        assert len(np.unique(screens.reshape(-1, 3), axis=0)) > 100


TINY = ["--episodes", "2", "--max-steps", "12", "--windows", "2", "--event-windows", "1"]
TINY += ["--steps", "4", "--long-frames", "0"]


@pytest.fixture
def changed(coinrun_world, tmp_path, monkeypatch):
    """Copies the world with some fields of its card changed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def change(**fields) -> Path:
        folder = tmp_path / "CoinRun"
        shutil.copytree(coinrun_world, folder)
        card = WorldCard.read(folder)
        (folder / "world.json").write_text(replace(card, **fields).to_json())
        return folder

    return change


def test_policies_are_played_with_the_options_of_the_command_on_levels_that_are_new(
    changed, coinrun_world
):
    """The card names the action set twice, as that of an imported world does."""
    arguments = WorldCard.read(coinrun_world).env_kwargs
    world = changed(env_kwargs={**arguments, "action_set": "coinrun-7"})
    (rates,) = measure_rates(str(world), {"random": "random"}, num_starts=1, steps=2)
    assert rates.figures()["rate_ends_real_random"] == 0
    trained, unseen = (make_real(world, 1, 5, unseen=unseen) for unseen in (False, True))
    for env, known in ((trained, True), (unseen, False)):
        env.reset(seed=0)
        assert (env.step([0])[4]["level_seed"][0] < arguments["num_levels"]) is np.bool_(known)
        env.close()
    for play in (partial(measure_rates, policies={"sticky": "sticky"}), look_for_exploits):
        more = {} if isinstance(play, partial) else {"agents": []}
        with pytest.raises(ValueError, match="device 'none' is not available"):
            play(str(world), **more, num_starts=1, steps=2, dreaming={"device": "none"})


def test_no_policy_is_played_where_nothing_can_be_paid(changed, tmp_path):
    world, out = changed(outcomes=False), tmp_path / "result.json"
    assert fidelity.main([str(world), *TINY, "--json", str(out)]) == 0
    figures = json.loads(out.read_text())["figures"]
    assert figures["psnr"] > 0 and not any(name[:4] in ("expl", "rate") for name in figures)


def test_what_was_measured_is_kept_if_a_policy_cannot_play(changed, tmp_path):
    world, out = changed(), tmp_path / "result.json"
    with pytest.raises(ValueError, match="the folder of a saved agent"):
        fidelity.main([str(world), *TINY, "--agents", "nobody", "--record", "--json", str(out)])
    assert json.loads(out.read_text())["figures"]["psnr"] == WorldCard.read(world).scores["psnr"]


def test_other_worlds_and_wrong_words(coinrun_world, capsys):
    assert fidelity.world_name("GenieRedux/Kangaroo-v0") == "Kangaroo"
    assert fidelity.world_name(str(coinrun_world)) == str(coinrun_world)
    assert cli(["bench", "fidelty"]) == 1
    assert "unknown benchmark 'fidelty'. Did you mean fidelity?" in capsys.readouterr().err


def test_dreams_are_as_short_as_the_episodes():
    short = SimpleNamespace(num_frames=np.array([3, 6]))
    for given, steps in (({}, 5), ({"quick": True}, 5), ({"amounts": Amounts(steps=4)}, 4)):
        config = fidelity.FidelityConfig(world="Pong", **given)
        assert fidelity._amounts(config, short).steps == steps


def test_ticks_are_round_and_enclose():
    assert ticks(0.13, 0.97) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(-3, 22)[0] == -5 and ticks(-3, 22)[-1] == 25
    assert ticks(5, 5)[0] <= 5 < ticks(5, 5)[-1]


def test_charts_put_values_where_they_belong():
    nan = float("nan")
    series = [Line("a<b", [0.0, 5.0, 10.0], "dream"), Line("c", [nan, 5.0, 10.0], "copy")]
    svg = lines(series, x=[1, 2, 3], x_title="steps", y_title="dB")
    assert "a&lt;b" in svg and svg.count("<circle") == 5 and "nan" not in svg
    (path,) = re.findall(r'class="line dream" d="M([^"]+)"', svg)
    points = [tuple(map(float, point.split())) for point in path.split("L")]
    xs, ys = zip(*points, strict=True)
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.2) and ys[0] > ys[2]
    drawn = dots([("all", [("dream", 4.0, "dream"), ("copy", 2.0, "copy")])], title="dB")
    right, left = (float(x) for x in re.findall(r'<circle class="\w+" cx="([\d.]+)"', drawn))
    assert right > left
