"""The command `genie-gym` as a stranger meets it: what he mistypes, and what he is told."""

import configparser
import json
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from filelock import FileLock
from gymnasium.wrappers import NumpyToTorch
from gymnasium.wrappers.vector import NumpyToTorch as NumpyToTorchVector

from benchmarks import demo, report
from genie_gym import __version__, doctor
from genie_gym.cli import COMMANDS, main
from genie_gym.collect.command import CollectConfig, collect
from tests.counting_env import CountingEnv
from world_models import train

ROOT = Path(__file__).parents[1]
GAME = "tests.picture_env:PictureGame-v0"


def told(capsys, *argv: str) -> tuple[int, str, str]:
    """Exit status, and what was printed on stdout and stderr."""
    status = main(list(argv))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("data") / "walks"
    assert collect(CollectConfig(env=GAME, out=out, episodes=3, max_steps=12)) == 0
    return out


def test_help_lists_every_command_with_examples_and_the_version_is_told(capsys):
    status, out, _ = told(capsys)
    assert status == 0 and out == told(capsys, "--help")[1]
    assert all(f"\n  {name} " in out for name in COMMANDS)
    assert "examples:" in out and "genie-gym build RetroAct/" in out
    assert told(capsys, "--version")[:2] == (0, f"genie-gym {__version__}\n")


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (["biuld"], 2, "unknown command 'biuld'. Did you mean 'build'?"),
        (["collect", "Procgen/Coinrn-v0", "--out", "x"], 1, "Did you mean: `CoinRun`?"),
        (["collect", "Pendulum-v1", "--out", "x"], 1, "only Discrete action spaces are supported"),
        (["loop", "Nope"], 1, "Environment `Nope` doesn't exist"),
        (["train", "tokenizr"], 1, "Did you mean 'tokenizer'?"),
        (["bench", "fidelty"], 1, "Did you mean fidelity?"),
        (["data", "verify", "nowhere"], 1, "nowhere is not a dataset: it has no manifest"),
        (["build", "RetroAct/Zelda-Nes-v0"], 1, "doesn't exist in namespace RetroAct"),
    ],
)
def test_a_mistake_is_one_line_without_a_traceback(
    capsys, tmp_path, monkeypatch, argv, status, words
):
    monkeypatch.chdir(tmp_path)
    found, out, err = told(capsys, *argv)
    assert found == status and words in err
    assert out == "" and "Traceback" not in err and "episode/s" not in err
    assert err.startswith("genie-gym") and err.count("\n") <= 40


@pytest.mark.parametrize("env", ["Procgen/CoinRun-v0", "RetroAct/Boxing-Atari2600-v0"])
def test_an_unknown_argument_of_an_env_is_answered_with_the_known_ones(capsys, tmp_path, env):
    given = ["--env-kwargs", "nonsense", "3", "--out", str(tmp_path / "x")]
    status, _, err = told(capsys, "collect", env, *given)
    assert status == 1 and "unexpected keyword argument 'nonsense': this env takes" in err
    assert "action_set" in err and "episode/s" not in err
    with pytest.raises(TypeError, match="Did you mean 'render_mode'"):
        gym.make(env, rendermode="rgb_array")


def test_a_dream_knows_its_arguments_too():
    with pytest.raises(TypeError, match="takes world.*temperature.*Did you mean 'steps'"):
        gym.make("GenieRedux/CrazyClimber-v0", stps=2)


def test_a_single_env_is_not_told_of_rows():
    env = CountingEnv()
    with pytest.raises(gym.error.ResetNeeded, match="^there is no episode yet: call reset"):
        env.step(0)
    env.reset()
    env.step(2)
    with pytest.raises(gym.error.ResetNeeded, match=r"^the episode has ended: call reset\(\)"):
        env.step(0)
    with pytest.raises(ValueError, match="this env has no reset options, got"):
        env.reset(options={"level": 3})


def test_other_episodes_in_a_dataset_are_told_of(capsys, data):
    given = {"env": GAME, "out": data, "episodes": 1}
    assert collect(CollectConfig(max_steps=13, **given)) == 0
    assert f"note: {data} also has 3 episodes with max_steps 12" in capsys.readouterr().out
    assert collect(CollectConfig(max_steps=13, policy="sticky", **given)) == 0
    said = capsys.readouterr().out
    assert "1 episodes with policy random\n" in said and "policy random, max_steps 12" in said


def test_the_same_episodes_are_not_collected_twice_at_once(tmp_path):
    config = CollectConfig(env=GAME, out=tmp_path / "data", episodes=2, max_steps=5)
    assert collect(config) == 0
    (locked,) = (tmp_path / "data").glob(".collecting-*")
    more = CollectConfig(env=GAME, out=tmp_path / "data", episodes=3, max_steps=5)
    with FileLock(locked), pytest.raises(RuntimeError, match="another process.*--part K/N"):
        collect(more)
    assert collect(more) == 0


def test_showing_a_dataset_changes_nothing_in_it(capsys, data, tmp_path):
    before = sorted(data.rglob("*"))
    assert told(capsys, "data", "show", str(data))[0] == 0
    assert sorted(data.rglob("*")) == before
    assert told(capsys, "data", "show", str(data), "--sheet", str(tmp_path / "s.png"))[0] == 0
    assert (tmp_path / "s.png").exists()


def test_json_is_written_only_where_asked_and_names_the_command(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["genie-gym bench fidelity", "CoinRun", "--quick"])
    report.report("fidelity", {"psnr": 1.0}, [{"psnr": 1.0}], tmp_path / "f.json")
    written = json.loads((tmp_path / "f.json").read_text())
    assert written["figures"] == {"psnr": 1.0}
    assert written["command"] == "genie-gym bench fidelity CoinRun --quick"
    report.report("fidelity", {"psnr": 1.0}, [{"psnr": 1.0}], None)
    assert "{" not in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["genie-gym demo", "--steps", "3"])
    assert report.command("fidelity") == "genie-gym demo --steps 3"
    monkeypatch.setattr(sys, "argv", ["/somewhere/fidelity.py", "--quick"])
    assert report.command("fidelity") == "python -m benchmarks.fidelity --quick"
    assert "fidelity.json" in Path(demo.__file__).read_text()


def test_the_help_of_train_explains_kinds_and_recipes(capsys, monkeypatch):
    assert told(capsys, "train", "--help")[0] == 0
    monkeypatch.setattr(sys, "argv", ["genie-gym train"])
    usage = train.usage()
    assert "GenieRedux-G as published" in usage and "One Atari 2600 game" in usage
    assert "genie-gym train dynamics coinrun --data" in usage


def test_the_doctor_knows_every_extra():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = set(config["options.extras_require"]) - {"all", "dev", "docs", "wandb", "fid"}
    assert doctor._EXTRAS.keys() == extras


def test_the_doctor_tells_what_is_here(capsys):
    status, out, _ = told(capsys, "doctor")
    assert status == 0
    for what in ("CPU", "GPU", "precision", "compiler", "ROMs", "extra train", "worlds"):
        assert f"  {what} " in out
    assert told(capsys, "doctor", "--json")[0] == 0
    (missing,) = [doctor._extra("minari", "no_such_package.part", "Minari datasets")]
    assert not missing.good and "pip install 'genie-gym[minari]'" in missing.means


def test_gymnasiums_torch_wrappers_work_on_dreams():
    env = NumpyToTorch(gym.make("GenieRedux/CrazyClimber-v0"))
    frame, _ = env.reset(seed=0)
    assert isinstance(frame, torch.Tensor) and frame.shape == (64, 64, 3)
    assert isinstance(env.step(torch.tensor(1))[0], torch.Tensor)
    env.close()
    rows = NumpyToTorchVector(gym.make_vec("GenieRedux/CrazyClimber-v0", num_envs=2))
    assert np.array_equal(rows.reset(seed=0)[0][0], frame)
    rows.close()


def test_bash_completes_the_commands(capsys):
    """In a real bash."""
    _, script, _ = told(capsys, "completion")
    typed = 'COMP_WORDS=(genie-gym bu) COMP_CWORD=1; _genie_gym; echo "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", f"{script}\n{typed}"], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("build\n", "")


def test_a_reader_that_stops_reading_is_no_error():
    """Also: `python -m genie_gym` works."""
    code = f"{sys.executable} -m genie_gym games list | head -1"
    done = subprocess.run(code, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("game") and done.stderr == ""


def test_the_readmes_block_for_sb3_works_alone_and_prints_no_banner():
    code = (
        "from agents.sb3 import make_sb3_env\n"
        "make_sb3_env('Procgen/CoinRun-v0', 2, num_levels=3).close()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
