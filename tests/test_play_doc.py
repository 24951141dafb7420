"""docs/play.md: the files, options and keys that it names exist."""

import re
from dataclasses import fields
from pathlib import Path

from genie_gym.play.command import Play

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "play.md").read_text()
PAGE = ROOT / "genie_gym" / "play" / "page"


def test_its_files_exist():
    paths = re.findall(r"`((?:genie_gym|benchmarks)/[\w/.]+)`", TEXT)
    assert len(paths) > 4
    for path in paths:
        assert (ROOT / path).exists(), path


def test_its_options_are_those_of_the_command():
    known = {field.name.replace("_", "-") for field in fields(Play)}
    named = set(re.findall(r"--([a-z][a-z-]+)", TEXT)) - {"json"}
    assert len(named) > 6 and named <= known


def test_its_keys_are_those_of_the_page():
    known = set(re.findall(r"\bKey([A-Z]): \"", (PAGE / "main.js").read_text()))
    assert len(known) > 8
    table = TEXT.partition("## Speed")[0]
    named = set(re.findall(r"\b([A-Z])\b(?! recording)", table)) - {"X"}  # a key of the controls
    assert named == known
