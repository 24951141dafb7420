"""A job is resumed only with the settings it was started with."""

import json
from pathlib import Path

import pytest

from world_models.settings import begin

SETTINGS = {"seed": 0, "model": {"dim": 64, "betas": (0.9, 0.99)}, "steps": 10, "out": Path("x")}


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "run" / "settings.json"
    assert begin(path, SETTINGS) == {}
    return path


def test_the_same_settings_go_on(path):
    kept = json.loads(path.read_text())
    assert kept["model"] == {"dim": 64, "betas": [0.9, 0.99]} and kept["out"] == "x"
    assert begin(path, SETTINGS) == {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "run was started with seed 0, not 1: .* choose another --out"),
        ({"model": {"dim": 32, "betas": (0.9, 0.99)}}, "model.dim 64, not 32"),
        ({"new": True}, "new None, not True"),
    ],
)
def test_the_first_difference_is_named_with_both_values(path, change, words):
    with pytest.raises(ValueError, match=words):
        begin(path, SETTINGS | change)


def test_a_setting_that_is_gone_is_a_difference(path):
    with pytest.raises(ValueError, match="seed 0, not None"):
        begin(path, {name: value for name, value in SETTINGS.items() if name != "seed"})


def test_what_may_change_is_told_and_stays_as_it_was_begun(path):
    longer = SETTINGS | {"steps": 20}
    for _ in range(2):
        assert begin(path, longer, may_change=("steps", "out")) == {"steps": "steps 10, not 20"}
    with pytest.raises(ValueError, match="steps 10, not 20"):
        begin(path, longer, may_change=("out",))


def test_one_of_several_processes_writes(tmp_path):
    path = tmp_path / "settings.json"
    assert begin(path, SETTINGS, write=False) == {} and not path.exists()


def test_a_damaged_file_is_named(path):
    path.write_text("{")
    with pytest.raises(ValueError, match="settings.json cannot be read.*another --out"):
        begin(path, SETTINGS)
