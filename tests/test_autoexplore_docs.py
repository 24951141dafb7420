"""The page about AutoExplore: its code runs, its commands exist, its numbers were measured."""

import json
import re
import subprocess
import sys
from pathlib import Path

from genie_gym.cli import COMMANDS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "autoexplore.md"
TEXT = PAGE.read_text()


def test_its_code_runs():
    code = "\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))
    assert "RecurrentPPO" in code and "IntrinsicRewardVector" in code
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_its_commands_and_files_exist():
    assert set(re.findall(r"genie-gym ([a-z][a-z-]+)", TEXT)) <= COMMANDS.keys()
    for link in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (PAGE.parent / link).exists(), link
    for module in re.findall(r"python -m (benchmarks[\w.]+)", TEXT):
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").exists()


def test_its_figures_are_those_of_the_committed_results():
    figures = re.findall(r"(-?[\d.]+) \| `(\w+)\.(\w+)`", TEXT)
    assert figures
    for shown, benchmark, key in figures:
        result = json.loads((ROOT / "benchmarks" / "results" / f"{benchmark}.json").read_text())
        digits = len(shown.partition(".")[2])
        assert f"{result['figures'][key]:.{digits}f}" == shown, key
