"""`genie-gym play --blind-test`: driven in a browser by somebody who always sees the truth."""

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import numpy as np
import pytest
from selenium.webdriver.common.by import By

from genie_gym.evaluation.unseen import SEED
from genie_gym.play.blind_test import BlindTest, wilson_interval
from genie_gym.play.server import Address, running
from genie_gym.play.trials import REAL, ClipOptions, Trial, _long_episodes, make_trials
from tests.browser import complaints, driven, prefer, requests, resize, until
from world_models.worlds.find import SHIPPED

PAIRS = 8


def test_wilsons_interval_is_that_of_the_tables():
    assert wilson_interval(0, 0) == (0, 1)
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson_interval(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_clips_go_on_from_the_same_real_frame(world, coinrun_world, one_thread):
    options = ClipOptions(num=3, frames=5, prompt=2)
    trials = make_trials(str(coinrun_world), REAL, options, dtype="float32")
    for trial in trials:
        dream, real = trial.clips
        assert trial.real.shape == dream.shape == (6, 64, 64, 3)
        assert (real == trial.real).all() and (dream[0] == trial.real[0]).all()
        assert not (dream[1:] == trial.real[1:]).all()
    again = make_trials(str(coinrun_world), REAL, options, dtype="float32")
    assert all((a.real == b.real).all() for a, b in zip(trials, again, strict=True))


def test_clips_are_of_play_that_the_world_was_not_trained_on(world):
    (episode,) = _long_episodes(world, 5, ClipOptions(num=1))
    played = episode.info.extra["collection"]
    assert played["seed"] == SEED not in world.card.provenance["data"]["seeds"]
    assert played["env_kwargs"]["start_level"] == world.card.env_kwargs["num_levels"]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (REAL, REAL, "two different"),
        (str(SHIPPED / "Pong"), str(SHIPPED / "Freeway"), "same game"),
    ],
)
def test_sources_that_cannot_be_compared(first, second, message):
    with pytest.raises(ValueError, match=message):
        make_trials(first, second, ClipOptions(num=1))


def test_a_person_answers_in_the_browser(coinrun_world, tmp_path):
    result = tmp_path / "result.json"
    options = ["--pairs", str(PAIRS), "--clip-frames", "6", "--port", "0", "--result", str(result)]
    command = [sys.executable, "-m", "genie_gym.cli", "play", *options]
    server = subprocess.Popen(
        [*command, "--blind-test", str(coinrun_world), REAL], stdout=subprocess.PIPE, text=True
    )
    try:
        assert "8 pairs" in server.stdout.readline()
        url = server.stdout.readline().split()[1]
        with driven() as driver:
            _answer_all(driver, url, result)
        server.send_signal(signal.SIGINT)
        said, _ = server.communicate(timeout=20)
    finally:
        server.kill()
    assert server.returncode == 0 and "was nearer in 0% of 8 answers" in said
    again = subprocess.run(
        [*command, "--blind-test", str(coinrun_world), REAL], capture_output=True, text=True
    )
    assert again.returncode == 1 and "has earlier answers" in again.stderr


def _answer_all(driver, url, result):
    driver.get(url)
    seen = set()
    for number in range(PAIRS):
        until(lambda n=number: f"Question {n + 1} of" in text(driver, "progress"))
        assert (
            REAL not in driver.page_source.replace("real game", "").replace("Real game", "").split()
        )
        side = driver.execute_async_script(
            "const [number, done] = arguments;"
            "(async () => {"
            "  const left = (await (await fetch('/trials')).json()).left[0];"
            "  const clip = async (which) => new Uint8Array("
            "    await (await fetch(`/clips/${left}/${which}`)).arrayBuffer()).join();"
            "  const [real, one] = [await clip('real'), await clip('left')];"
            "  done(real === one ? 'left' : 'right');"
            "})()",
            number,
        )
        seen.add(side)
        driver.find_element(By.ID, side).click()
        until(lambda n=number: result.exists() and json.loads(result.read_text())["answers"] > n)
    until(lambda: "real is nearer" in text(driver, "verdict"))
    assert seen == {"left", "right"}
    bar = driver.find_element(By.ID, "share")
    assert [
        part.size["width"] / bar.size["width"] for part in bar.find_elements(By.XPATH, "*")
    ] == (
        pytest.approx([0, 0.3244], abs=0.01)  # the share of the dream, and its interval
    )
    written = json.loads(result.read_text())
    assert written["nearer"]["real"] == written["answers"] == PAIRS
    assert written["interval_95"] == pytest.approx([0, 0.3244], abs=1e-3)
    assert all(answer["seconds"] > 0 for answer in written["given"])
    for scheme in ("light", "dark"):
        prefer(driver, scheme)
        resize(driver, 390, 844, phone=True)
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 390
    assert {asked.split("/")[2] for asked in requests(driver) if "//" in asked} == {
        url.split("/")[2]
    }
    assert complaints(driver) == []


def text(driver, name):
    return driver.find_element(By.ID, name).text


def test_answers_are_checked(tmp_path):
    clip = np.zeros((2, 4, 4, 3), np.uint8)
    trials = [Trial(real=clip, clips=(clip, clip + 1)) for _ in range(2)]
    test = BlindTest(("a", "b"), trials, tmp_path / "result.json", seed=0)

    def send(body: bytes, url: str, **headers: str) -> int:
        request = urllib.request.Request(f"{url}answers", body, headers)
        try:
            return urllib.request.urlopen(request).status
        except urllib.error.HTTPError as answer:
            return answer.code

    with running(test.app, Address()) as url:
        own = {"Origin": url.rstrip("/")}
        good = b'{"trial": 0, "side": "left"}'
        assert send(good, url) == send(good, url, Origin="http://evil.example") == 403
        for bad in (b"", b"[]", b"\xff", b'{"trial": 2, "side": "left"}', b'{"trial": 0}'):
            assert send(bad, url, **own) == 400
        assert send(b'{"trial": 0, "side": "up"}', url, **own) == 400
        assert send(b" " * 2000, url, **own) == 413
        assert test.summary()["answers"] == 0
        assert [send(good, url, **own) for _ in range(2)] == [200, 409]
        assert test.summary()["answers"] == 1
