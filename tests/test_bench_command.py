"""`genie-gym bench` lists everything that can be measured, and runs each by its name."""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

from benchmarks.command import BENCHMARKS, STUDIES, module_of
from benchmarks.report import Measured, run_benchmark
from genie_gym.cli import main as cli

FOLDER = Path(__file__).parents[1] / "benchmarks"
OTHER_COMMANDS = {"command", "demo"}  # reached as `genie-gym bench` and `genie-gym demo`


@pytest.mark.parametrize("arguments", [["bench"], ["bench", "--help"]])
def test_everything_is_listed_with_a_line_each(arguments, capsys):
    assert cli(arguments) == 0
    listed = dict(re.findall(r"^  (\w+)  +(\S.*)$", capsys.readouterr().out, re.MULTILINE))
    assert listed == {**BENCHMARKS, **STUDIES}


@pytest.mark.parametrize(("folder", "table"), [(".", BENCHMARKS), ("studies", STUDIES)])
def test_the_tables_have_every_module_with_a_command(folder, table):
    files = (FOLDER / folder).glob("*.py")
    commands = {file.stem for file in files if "\ndef main(" in file.read_text()}
    assert commands - OTHER_COMMANDS == table.keys()


@pytest.mark.parametrize("name", [*BENCHMARKS, *STUDIES])
def test_each_says_what_it_takes(name, capsys):
    importlib.import_module(module_of(name))
    with pytest.raises(SystemExit) as end:
        cli(["bench", name.replace("_", "-"), "--help"])
    assert end.value.code == 0
    assert f"genie-gym bench {name}" in capsys.readouterr().out


def test_an_unknown_name_is_answered_with_a_near_one(capsys):
    assert cli(["bench", "two-arms"]) == 1
    said = capsys.readouterr().err
    assert "unknown benchmark 'two-arms'. Did you mean two_armed?" in said and "fidelity" in said


def test_a_benchmark_reports_what_it_measured(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmarks/studies/x.py"])

    def measure(given) -> Measured:
        return {"rounds": 1 if given.quick else 9}, [{"what": "rounds"}]

    file = tmp_path / "deep" / "result.json"
    assert run_benchmark("studies.x", measure, ["--quick", "--json", str(file)], about="X.") == 0
    assert '"rounds"' not in capsys.readouterr().out
    assert run_benchmark("studies.x", measure, ["--quick"], about="X.") == 0
    assert "{" not in capsys.readouterr().out
    result = json.loads(file.read_text())
    assert (result["benchmark"], result["figures"]) == ("x", {"rounds": 1})
    assert result["command"].startswith("python -m benchmarks.studies.x")
