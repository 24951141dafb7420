"""Games that stable-retro does not know: homebrew games become envs, mistakes leave nothing."""

import json
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import registry

from genie_gym.cli import main
from genie_gym.registration import register_envs
from genie_gym.retroact import catalogue, roms
from genie_gym.retroact.own_games import add_game
from tests.env_contract import Case, EnvContract, actions_for
from tests.homebrew import LJ65_FILES, LJ65_PRESS, homebrew_roms
from world_models.episodes import EpisodeDataset

IDS = {"RetroAct/Lj65-Nes-v0", "RetroAct/Croom-Nes-v0"}


@pytest.fixture(scope="module")
def homebrew(request):
    return homebrew_roms(request.config.rootpath / ".pytest_cache" / "homebrew")


@pytest.fixture(scope="module")
def lj65_folder(homebrew, tmp_path_factory):
    """The ROM with files of an integration."""
    folder = tmp_path_factory.mktemp("lj65")
    (folder / "lj65.nes").write_bytes(homebrew["lj65"].read_bytes())
    for name, content in LJ65_FILES.items():
        (folder / name).write_text(content)
    return folder


def forget():
    for cached in (
        catalogue.games,
        catalogue.dreamed,
        catalogue._by_name,
        catalogue._platforms_of_title,
    ):
        cached.cache_clear()


@pytest.fixture(scope="module")
def added(homebrew, lj65_folder, tmp_path_factory):
    """Both games in a folder that this process and its children know."""
    folder = tmp_path_factory.mktemp("games")
    before = set(registry)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(roms.OWN_VARIABLE, str(folder))
        add = ["roms", "add", "--name"]
        assert main([*add, "Lj65", str(lj65_folder), "--press", *LJ65_PRESS]) == 0
        assert main([*add, "Croom", str(homebrew["croom"]), "--press", "START", "START"]) == 0
        forget()
        register_envs()
        yield folder
    forget()
    for env_id in set(registry) - before:
        del registry[env_id]


class TestHomebrewEnv(EnvContract):
    @pytest.fixture
    def case(self, added):
        return Case(env_id="RetroAct/Lj65-Nes-v0")


def test_every_new_process_knows_the_games(added):
    def said(*arguments):
        command = [sys.executable, "-m", "genie_gym.cli", *arguments, "--json"]
        return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)

    status = said("roms", "status")
    assert {"Lj65-Nes", "Croom-Nes"} <= set(status["playable"])
    assert status["platforms"]["Nes"]["playable"] == 2
    listed = said("games", "--playable", "--platform", "Nes")["games"]
    assert {game["env_id"] for game in listed} == IDS
    assert {game["dream_id"] for game in listed} == {"GenieRedux/Lj65-v0", "GenieRedux/Croom-v0"}


@pytest.mark.parametrize("env_id", sorted(IDS))
def test_the_games_are_played_and_a_saved_state_has_the_same_future(added, env_id):
    env = gym.make(env_id, action_set="retroact-7")
    env.reset(seed=0)
    actions = actions_for(env.action_space, 200, 1)[:, 0]
    frames = set()
    for action in actions:
        frame, _, terminated, truncated, _ = env.step(action)
        frames.add(frame.tobytes())
        assert not truncated
        if terminated:
            env.reset()
    assert len(frames) > 50, "the buttons of the start state lead into the game"
    env.reset()
    env.step(1)
    state = env.unwrapped.save_state()
    future = [env.step(action)[0] for action in actions[:40]]
    env.unwrapped.load_state(state)
    assert np.array_equal([env.step(action)[0] for action in actions[:40]], future)
    env.close()


def test_rewards_and_ends_are_those_of_the_files_given(added, capsys):
    env = gym.make("RetroAct/Lj65-Nes-v0", action_set="retroact-7")
    env.reset(seed=0)
    drop, score, ended = env.unwrapped.action_meanings.index("UP"), 0.0, False
    while not ended:
        _, reward, ended, truncated, info = env.step(drop)
        score += reward
        _, reward, ended, truncated, info = (
            env.step(0) if not ended else (0, 0.0, True, False, info)
        )
        score += reward
        assert not truncated
    env.close()
    assert score == 100 * info["hundreds"] + info["points"] > 100


def test_episodes_are_collected(added, tmp_path):
    command = ["collect", "RetroAct/Lj65-Nes-v0", "--episodes", "2", "--max-steps", "90"]
    assert main([*command, "--out", str(tmp_path / "data")]) == 0
    assert len(EpisodeDataset(tmp_path / "data")) == 2


def test_the_command_says_what_is_missing(homebrew, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(roms.OWN_VARIABLE, str(tmp_path / "games"))
    renamed = rom(tmp_path, "a room (v1).nes", homebrew["croom"].read_bytes())
    assert main(["roms", "add", str(renamed)]) == 0
    said = capsys.readouterr().out
    folder = tmp_path / "games" / "aroomv1-Nes-v0"
    assert f"RetroAct/aroomv1-Nes-v0 is added: {folder}" in said
    assert "rewards are all 0 and its episodes end only by their length" in said
    assert "data.json and scenario.json" in said
    assert {path.name for path in folder.iterdir()} == {
        "rom.nes",
        "rom.sha",
        "data.json",
        "scenario.json",
    }


def rom(folder, name, content):
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        (lambda new, good: {"path": new / "none.nes"}, "there is no file or folder"),
        (lambda new, good: {"path": rom(new, "a.bin", bytes(4096))}, r"\.a26 \(Atari2600\)"),
        (lambda new, good: {"path": rom(new, "a.nes", b"NES")}, "at least 1 KiB, got 3 bytes"),
        (lambda new, good: {"path": rom(new, "a.nes", bytes(4096))}, "Could not load ROM"),
        (lambda new, good: {"path": new}, "one ROM in the folder .* found none"),
        (lambda new, good: {"path": good, "name": "Pong"}, "Pong-Atari2600 already.*--name NAME"),
        (lambda new, good: {"path": good, "name": "My Game"}, "only letters and digits"),
        (
            lambda new, good: {"path": good, "name": "My", "press": ["STRAT"]},
            "no button 'STRAT'.*START",
        ),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(mistake, told, homebrew, tmp_path, monkeypatch):
    new, own = tmp_path / "new", tmp_path / "own"
    new.mkdir()
    monkeypatch.setenv(roms.OWN_VARIABLE, str(own))
    with pytest.raises((ValueError, FileNotFoundError), match=told) as error:
        add_game(**mistake(new, homebrew["lj65"]))
    assert "\n" not in str(error.value)
    assert not own.exists() or not list(own.iterdir())


def test_files_that_do_not_work_are_refused(lj65_folder, tmp_path, monkeypatch):
    monkeypatch.setenv(roms.OWN_VARIABLE, str(tmp_path / "own"))
    folder = tmp_path / "new"
    folder.mkdir()
    rom(folder, "lj65.nes", (lj65_folder / "lj65.nes").read_bytes())
    (folder / "data.json").write_text("{")
    with pytest.raises(ValueError, match="Failed to load info"):
        add_game(folder / "lj65.nes", name="Torn")
    assert not list((tmp_path / "own").iterdir())


def test_a_rom_that_stable_retro_knows_is_sent_to_import(tmp_path, monkeypatch):
    monkeypatch.setenv(roms.OWN_VARIABLE, str(tmp_path / "own"))
    known = roms.find_rom(roms.game_dir("Airstriker-Genesis"))
    copy = rom(tmp_path, "mine.gen", Path(known).read_bytes())
    with pytest.raises(ValueError, match=f"Airstriker-Genesis.*genie-gym roms import {copy}"):
        add_game(copy)
    assert not (tmp_path / "own").exists()
