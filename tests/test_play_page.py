"""The page of `genie-gym play` in a real browser, with the shipped CoinRun and the real one."""

import io
import subprocess
import sys
import urllib.request
from urllib.parse import urljoin, urlsplit

import cv2
import gymnasium as gym
import numpy as np
import pytest
import torch
from PIL import Image
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

import genie_gym  # noqa: F401
from agents.saved_policy import PolicyCard, build_policy, save_policy
from genie_gym.actions import action_set
from tests.browser import complaints, driven, prefer, requests, resize, until
from tests.play_page import Page
from tests.played import engine, served
from world_models.episodes import EpisodeDataset
from world_models.worlds.find import SHIPPED

WORLD = SHIPPED / "CoinRun"
NOOP, RIGHT, LEFT, JUMP, JUMP_RIGHT = range(5)
SEED = 5  # its dream goes on for a while
DESKTOP, PHONE = (1280, 800), (390, 844)


@pytest.fixture(scope="module")
def jumper(tmp_path_factory):
    """A saved policy that always jumps."""
    actions = action_set("coinrun-7")
    card = PolicyCard(
        env_id="Procgen/CoinRun-v0",
        action_set=actions.name,
        action_meanings=actions.meanings,
        frame_shape=(64, 64, 3),
        features="nature",
    )
    network = build_policy(card)
    with torch.no_grad():
        network.action_net.bias[JUMP] = 1e4
    save_policy(folder := tmp_path_factory.mktemp("policies") / "jumper", card, network)
    return folder


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    return tmp_path_factory.mktemp("recordings")


@pytest.fixture(scope="module")
def browser(one_thread, jumper, recordings):
    with (
        engine(WORLD, recordings, seed=SEED, policies=[str(jumper)], dtype="float32") as playing,
        served(playing) as url,
        driven(*DESKTOP) as driver,
    ):
        driver.url = url
        yield driver


@pytest.fixture
def page(browser):
    resize(browser, *DESKTOP)
    page = Page(browser)
    yield page
    assert complaints(browser) == []


def dreamed(actions, seed=SEED, **options):
    """What the env shows for these actions: the frame of reset, and those of the steps."""
    env = gym.make("GenieRedux/CoinRun-v0", world=WORLD, dtype="float32").unwrapped
    frames = [env.reset(seed=seed, **options)[0]]
    frames += [env.step(action)[0] for action in actions]
    env.close()
    return frames


def test_keys_move_the_dream_as_they_move_the_env(page):
    for keys, action in [
        ((Keys.ARROW_RIGHT,), RIGHT),
        (("a",), LEFT),
        ((Keys.SPACE, "d"), JUMP_RIGHT),
        ((), NOOP),
    ]:
        page.begin(SEED)
        page.hold(*keys)
        page.step(3)
        page.let_go(*keys)
        assert page.frame()["action"] == action
        assert (page.pixels(0)[..., :3] == dreamed([action] * 3)[-1]).all(), keys


def test_pause_step_speed_reset(page):
    page.pause()
    stood = page.frame()["now"]
    page.run("return new Promise((done) => setTimeout(done, 300))")
    assert page.frame()["now"] == stood
    page.step()
    assert page.frame()["now"] == stood + 1 and page.frame()["paused"]
    Select(page.driver.find_element(By.ID, "speed")).select_by_value("5")
    page.driver.find_element(By.TAG_NAME, "body").send_keys("r")
    until(lambda: page.frame()["now"] == 0 and page.frame()["fps"] == 5)
    page.click("pause")
    until(lambda: not page.frame()["paused"])
    begun = page.run("return [performance.now(), play.frame.now]")
    page.run("return new Promise((done) => setTimeout(done, 1500))")
    ended = page.run("return [performance.now(), play.frame.now]")
    assert 3 < 1000 * (ended[1] - begun[1]) / (ended[0] - begun[0]) < 7
    seed = page.frame()["seed"]
    page.click("next")
    until(lambda: page.frame()["seed"] == seed + 1)
    page.begin(11)
    assert (page.pixels(0)[..., :3] == dreamed([], 11)[0]).all()


def test_the_real_game_beside_from_the_same_start_with_the_same_keys(page):
    page.begin(SEED)
    page.switch("real")
    until(lambda: page.frame()["real"])
    page.begin(SEED)
    page.hold(Keys.ARROW_RIGHT)
    page.step(4)
    page.let_go(Keys.ARROW_RIGHT)
    settings = {"start_level": 100000, "num_levels": 100000, "velocity_map": True}
    env = gym.make("Procgen/CoinRun-v0", **settings)
    start = env.reset(seed=SEED)[0]
    real = [env.step(RIGHT)[0] for _ in range(4)][-1]
    env.close()
    assert (page.pixels("real")[..., :3] == real).all()
    dream = dreamed([RIGHT] * 4, options={"frames": start[None]})[-1]
    assert (page.pixels(0)[..., :3] == dream).all()
    error = np.square((real.astype(float) - dream) / 255).mean()
    assert page.frame()["real"]["psnr"] == pytest.approx(-10 * np.log10(error), abs=0.02)

    assert page.pixels(0, layer=1) is None  # the ghost
    page.switch("ghost")
    ghost = page.pixels(0, layer=1)
    apart = np.abs(real.astype(int) - dream).max(-1) >= 24
    assert apart.any() and ((ghost[..., 3] > 0) == apart).all()

    page.switch("dream-on")
    until(lambda: (page.pixels(0)[..., :3] == real).all())
    assert page.frame()["now"] == 4
    page.switch("real")
    until(lambda: page.frame()["real"] is None)
    page.step()


def test_the_patches_it_is_unsure_of(page):
    page.begin(SEED)
    page.step(2)
    assert page.pixels(0, layer=2) is None
    page.driver.find_element(By.TAG_NAME, "body").send_keys("e")
    until(lambda: page.pixels(0, layer=2) is not None)
    patches = page.pixels(0, layer=2)
    assert patches.shape[:2] == (8, 8) and len(np.unique(patches[..., 3])) > 3
    assert page.frame()["dreams"][0]["entropy"] > 0


def test_rewind_and_branch(page):
    page.begin(SEED)
    page.hold(Keys.ARROW_RIGHT)
    page.step(9)
    page.let_go(Keys.ARROW_RIGHT)
    ran = dreamed([RIGHT] * 9)
    page.rewind_to(4)
    assert (page.pixels(0)[..., :3] == ran[4]).all()
    page.click("branch")
    until(lambda: len(page.frame()["dreams"]) == 2)
    page.pause()
    page.rewind_to(4)
    page.hold(Keys.ARROW_LEFT)
    page.step(3)
    page.let_go(Keys.ARROW_LEFT)
    other = dreamed([RIGHT] * 4 + [LEFT] * 3)
    assert (page.pixels(0)[..., :3] == ran[7]).all()  # the first branch goes its old way
    assert (page.pixels(1)[..., :3] == other[7]).all()
    assert not (other[7] == ran[7]).all()
    page.driver.find_elements(By.CLASS_NAME, "keep")[1].click()
    until(lambda: len(page.frame()["dreams"]) == 1)
    assert (page.pixels(0)[..., :3] == other[7]).all()
    page.rewind_to(2)
    page.step()  # goes on from there
    assert page.frame()["end"] == 3


def test_a_policy_takes_the_controls_and_hands_them_over(page):
    page.begin(SEED)
    drivers = Select(page.driver.find_element(By.ID, "driver"))
    assert [option.text for option in drivers.options] == ["you", "jumper", "sticky", "random"]
    drivers.select_by_value("jumper")
    until(lambda: page.frame()["driver"] == "jumper")
    page.step(2)
    assert page.frame()["action"] == JUMP
    assert (page.pixels(0)[..., :3] == dreamed([JUMP] * 2)[-1]).all()
    page.hold(Keys.ARROW_RIGHT)  # whoever presses a key takes over
    until(lambda: page.frame()["driver"] == "")
    page.step()
    page.let_go(Keys.ARROW_RIGHT)
    assert page.frame()["action"] == RIGHT


def test_a_recording_becomes_an_episode_and_a_film(page, recordings):
    page.begin(SEED)
    page.switch("real")
    until(lambda: page.frame()["real"])
    page.begin(SEED)
    page.switch("record")
    until(lambda: page.frame()["recording"] == 0)
    page.hold(Keys.ARROW_RIGHT)
    page.step(6)
    page.let_go(Keys.ARROW_RIGHT)
    page.rewind_to(5)
    page.step()  # undoes a step of the recording, and takes it again
    shown, real = page.pixels(0)[..., :3], page.pixels("real")[..., :3]
    page.switch("record")
    links = until(lambda: page.driver.find_elements(By.CSS_SELECTOR, "#films a"))
    gif, mp4 = (
        urllib.request.urlopen(urljoin(page.driver.url, link.get_attribute("href"))).read()
        for link in links
    )
    film = Image.open(io.BytesIO(gif))
    assert (film.format, film.n_frames, film.size) == ("GIF", 7, (130 * 4, 64 * 4))
    film.seek(6)
    small = np.asarray(film.convert("RGB"))[2::4, 2::4].astype(int)
    assert np.abs(small[:, :64] - shown).mean() < 4 and np.abs(small[:, 66:] - real).mean() < 4
    path = recordings / "film.mp4"
    path.write_bytes(mp4)
    video = cv2.VideoCapture(str(path))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 7

    for name, last in (("CoinRun", shown), ("CoinRun-real", real)):
        command = [sys.executable, "-m", "genie_gym.cli", "data", "verify", str(recordings / name)]
        subprocess.run(command, check=True, capture_output=True)
        episode = EpisodeDataset(recordings / name).episode(0)
        assert episode.actions.tolist() == [RIGHT] * 5 + [NOOP]
        assert (episode.frames[-1] == last).all() and len(episode.frames) == 7
        assert episode.info.policy == "a person" and episode.info.seed == SEED


def test_another_world(page):
    worlds = Select(page.driver.find_element(By.ID, "world"))
    worlds.select_by_value("Freeway")
    until(lambda: page.run("return document.title.startsWith('Freeway')"))
    legend = page.driver.find_element(By.ID, "legend").text.split()
    assert legend == ["→", "right", "←", "left", "↑", "up", "↓", "down", "␣", "jump"]
    assert page.shown("idle-field")  # it has no action for doing nothing
    Select(page.driver.find_element(By.ID, "idle")).select_by_value("-1")
    stood = until(lambda: page.frame()["now"])
    page.run("return new Promise((done) => setTimeout(done, 300))")
    assert page.frame()["now"] <= stood + 2  # time stops
    page.hold("w")
    until(lambda: page.frame()["now"] > stood + 4 and page.frame()["action"] == 2)
    page.let_go("w")
    Select(page.driver.find_element(By.ID, "driver")).select_by_value("jumper")
    notice = until(lambda: page.driver.find_element(By.ID, "toast").text)
    assert "coinrun-7" in notice  # it was trained with other actions


def test_a_gamepad_plays(page):
    page.go_on()
    page.run(
        "const pad = { index: 0, axes: [1, 0], buttons: [{ pressed: true }] };"
        "navigator.getGamepads = () => [pad]; window.pad = pad"
    )
    until(lambda: page.frame()["action"] == JUMP_RIGHT)
    page.run("pad.axes = [-1, 0]; pad.buttons = []")
    until(lambda: page.frame()["action"] == LEFT)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_desktop_and_a_phone(page, scheme, tmp_path):
    driver = page.driver
    prefer(driver, scheme)
    page.switch("real")
    until(lambda: page.frame()["real"])
    grounds = []
    for size, phone in ((DESKTOP, False), (PHONE, True)):
        resize(driver, *size, phone=phone)
        until(lambda size=size: page.run("return innerWidth") == size[0])
        page.run("return new Promise((done) => setTimeout(done, 200))")
        assert page.run("return document.documentElement.scrollWidth") <= size[0]
        wide = page.run(
            "return [...document.querySelectorAll('.screen:not([hidden]), button, select')]"
            ".filter((e) => e.offsetParent && e.getBoundingClientRect().right > innerWidth + 1)"
            ".map((e) => e.id || e.className)"
        )
        assert wide == []
        assert page.shown("pad") == phone
        picture = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
        grounds.append(np.asarray(picture)[-2, 2])
    assert page.run("return document.documentElement.scrollHeight") > 0
    assert all((ground.mean() < 60) == (scheme == "dark") for ground in grounds)
    page.go_on()
    thumb = driver.find_element(By.CSS_SELECTOR, ".pad .to-right")
    ActionChains(driver).click_and_hold(thumb).perform()
    until(lambda: page.frame()["action"] == RIGHT)
    ActionChains(driver).release().perform()
    until(lambda: page.frame()["action"] == NOOP)


def test_it_asks_no_other_server_and_says_so_when_its_own_is_gone(browser):
    page = Page(browser)
    place = urlsplit(browser.url).netloc
    asked = [url for url in requests(browser) if not url.startswith(("data:", "about:"))]
    assert asked and {urlsplit(url).netloc for url in asked} == {place}
    page.run("play.link.socket.close()")
    until(lambda: page.shown("banner"))
    assert "Connect again" in browser.find_element(By.ID, "banner").text
