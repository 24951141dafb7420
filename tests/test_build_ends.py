"""How a build ends: a check that fails, a world that is already there or missing, Ctrl-C."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from genie_gym.build.command import BuildConfig, build
from genie_gym.build.stages import Manifest
from tests.tiny_build import GAME, config, tiny
from world_models.worlds.bundle import load_world, record_scores
from world_models.worlds.find import SHIPPED

pytestmark = pytest.mark.usefixtures("one_thread")


def finished_build(folder: Path, *unfinished: str) -> BuildConfig:
    """A build of which only the `unfinished` stages are left; its world is the package's Pong."""
    given = config(folder, GAME, preset="sprites")
    shutil.copytree(SHIPPED / "Pong", given.folder / "worlds" / "PictureGame")
    (given.folder / "fidelity-PictureGame.json").write_text('{"figures": {}}')
    manifest = Manifest(given.folder / "stages.jsonl")
    for stage in ("data-mixed", "tokenizer", "dynamics", "world-PictureGame", "score-PictureGame"):
        if stage not in unfinished:
            manifest.note(stage, "done", seconds=0.1)
    return given


def interrupted(arguments):
    time.sleep(0.2)
    raise KeyboardInterrupt


def too_short(arguments):
    raise ValueError("none of the 4 episodes has 11 frames")


def test_a_world_is_installed_though_its_check_fails(folder, capfd, monkeypatch):
    monkeypatch.setattr("genie_gym.build.build.FIDELITY", "tests.test_build_ends:too_short")
    monkeypatch.setattr("genie_gym.build.timed.dream_speed", lambda world: 100.0)
    given = replace(finished_build(folder, "score-PictureGame"), json=folder / "result.json")
    assert build(given, tiny())
    told = capfd.readouterr().out
    assert "the check failed: ValueError: none of the 4 episodes has 11 frames" in told
    assert f"genie-gym bench fidelity {given.installed} --record" in told and "NO" not in told
    assert load_world(given.installed).card.name == "Pong"
    assert "too_short" in (given.folder / "build.log").read_text()
    assert "none of" in json.loads((folder / "result.json").read_text())["fault"]


def test_a_finished_build_installs_its_world_wherever_it_is_missing(folder):
    given = finished_build(folder)
    assert build(given, tiny())
    record_scores(given.installed, {"psnr": 1.0})
    assert build(given, tiny()), "this build's own world, scored anew, is no other world"
    shutil.rmtree(given.installed)
    for wanted in (given, replace(given, worlds=folder / "more")):
        assert build(wanted, tiny())
        assert load_world(wanted.installed).card.name == "Pong"
    other = replace(given, worlds=folder / "other")
    shutil.copytree(SHIPPED / "Freeway", other.installed)
    with pytest.raises(ValueError, match="choose another --name, or add --replace"):
        build(other, tiny())
    assert build(replace(other, replace=True), tiny())
    assert load_world(other.installed).card.name == "Pong"


def test_ctrl_c_in_the_check_stops_the_build_and_its_time_counts(folder, capfd, monkeypatch):
    monkeypatch.setattr("genie_gym.build.build.FIDELITY", "tests.test_build_ends:interrupted")
    monkeypatch.setattr("genie_gym.build.timed.dream_speed", lambda world: 100.0)
    given = finished_build(folder, "score-PictureGame")
    assert not build(given, tiny())
    assert "stopped: run the same command to resume" in capfd.readouterr().out
    last = Manifest(given.folder / "stages.jsonl").entries()[-1]
    assert (last["stage"], last["event"]) == ("score-PictureGame", "stopped")
    assert last["seconds"] >= 0.2
