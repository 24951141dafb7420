"""A world as static files, dreaming in a real browser without a network."""

import http.server
import threading
from dataclasses import replace
from functools import partial

import pytest
import torch

from genie_gym.cli import main
from genie_gym.web.graphs import check_exportable
from genie_gym.web.runtime import FILES, runtime_files
from tests.browser import complaints, driven, requests, until
from world_models.presets import build, tiny
from world_models.worlds.bundle import load_world
from world_models.worlds.find import SHIPPED

FRAMES = {"Freeway": 12, "CoinRun": 4}  # one pass per frame, and several
SEED = 3
LARGEST = 25e6  # bytes of a folder
# Chromium finds no other machine than this one.
ALONE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("web")
    for world in FRAMES:
        assert main(["worlds", "export-web", str(SHIPPED / world), "--out", str(out / world)]) == 0
    return out


@pytest.fixture(scope="module")
def site(folder):
    """The address of a plain static server, and what was asked of it."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as s:
        threading.Thread(target=s.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{s.server_port}", asked
        s.shutdown()


@pytest.fixture(scope="module")
def browser():
    with driven(1280, 800, ALONE) as driver:
        driver.set_script_timeout(120)
        yield driver


def opened(browser, address, world):
    browser.get(f"{address}/{world}/index.html")
    until(lambda: browser.execute_script("return window.play && play.frame && play.frame.now"), 60)


def dreamed_in_python(name, actions):
    world = load_world(SHIPPED / name)
    model = world.model.eval().sampled(temperature=0.0)
    at = SEED % len(world.starts.frames)
    frames, between = world.starts.frames[at][None], world.starts.actions[at][None]
    tokens = model.tokenizer.encode(frames, frames.shape[1])
    state = model.start(frames, between, torch.tensor([SEED]), tokens=tokens)
    tokens, rewards = [], []
    for action in actions:
        state, prediction = model.step(state, torch.tensor([action]))
        tokens.append(prediction.tokens[0])
        rewards.append(float(prediction.reward))
    return torch.stack(tokens), rewards


@pytest.mark.parametrize("name", FRAMES)
def test_the_browser_dreams_the_tokens_and_rewards_of_python(name, browser, site):
    opened(browser, site[0], name)
    actions = [step // 4 % 5 for step in range(FRAMES[name])]
    measured = browser.execute_async_script(
        "play.link.measure({seed: arguments[0], actions: arguments[1], temperature: 0})"
        ".then(arguments[2])",
        SEED,
        actions,
    )
    tokens, rewards = dreamed_in_python(name, actions)
    same = torch.tensor(measured["tokens"]) == tokens
    assert same.float().mean() >= 0.999, same.all(1).tolist()
    assert measured["rewards"] == pytest.approx(rewards, abs=0.01)
    assert complaints(browser) == []


def test_the_page_is_complete_small_and_asks_for_nothing_else(folder, site, browser):
    address, asked = site
    opened(browser, address, "Freeway")
    sizes = {world.name: _bytes(world) for world in folder.iterdir()}
    assert max(sizes.values()) < LARGEST, sizes
    files = {f"/{file.relative_to(folder)}" for file in folder.rglob("*") if file.is_file()}
    assert set(asked) <= files
    assert f"/Freeway/ort/{list(FILES)[-1]}" in asked
    from_elsewhere = [url for url in requests(browser) if not url.startswith((address, "blob:"))]
    assert from_elsewhere == []


def test_the_player_pauses_rewinds_and_takes_a_film_home(browser, site):
    opened(browser, site[0], "Freeway")
    browser.execute_script("play.link.send('record', true); play.link.send('pause', false)")
    until(lambda: browser.execute_script("return play.frame.recording > 3"), 30)
    browser.execute_script("document.getElementById('record').click()")
    until(lambda: browser.execute_script("return document.querySelector('#films a')?.href"))
    read = (
        "fetch(document.querySelector('#films a').href).then((r) => r.arrayBuffer())"
        ".then((b) => arguments[0]([...new Uint8Array(b.slice(0, 6))]))"
    )
    assert bytes(browser.execute_async_script(read)) == b"GIF89a"
    browser.execute_script("play.link.send('rewind', 3)")
    until(
        lambda: browser.execute_script(
            "const f = play.frame; return f.paused && f.end - f.now == 3"
        )
    )
    shown = browser.find_element("id", "real")
    assert not shown.is_displayed()  # what needs a server is not there


@pytest.mark.parametrize("objective", ["two_stream", "paper"])
def test_a_world_that_a_browser_cannot_run_is_refused(objective):
    config = tiny()
    model = build(replace(config, dynamics=replace(config.dynamics, objective=objective)))
    reason = f"X has VQTokenizer and {objective}. Play it with: genie-gym play X"
    with pytest.raises(ValueError, match=reason):
        check_exportable("X", model)


def test_a_missing_runtime_names_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"npm.* is not installed.*--runtime FOLDER"):
        runtime_files()
    for name in FILES:
        (tmp_path / name).write_bytes(b"other")
    with pytest.raises(RuntimeError, match=r"is not the file from onnxruntime-web"):
        runtime_files(tmp_path)


def _bytes(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
