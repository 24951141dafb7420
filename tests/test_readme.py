"""The README's Python runs as it stands there, in order, and its commands exist."""

import json
import re
import subprocess
import sys
from pathlib import Path

from genie_gym.cli import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_code_runs_after_its_commands(tmp_path):
    """Everything in one process, in an empty folder that has the data the README collects."""
    collect = "genie-gym collect Procgen/CoinRun-v0 --policy random --episodes 200"
    assert any(collect in block for block in blocks("bash"))
    arguments = collect.replace("200", "12").split()[1:]
    subprocess.run(
        [*(sys.executable, "-m", "genie_gym.cli"), *arguments, "--max-steps", "60"]
        + ["--out", "data/coinrun"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    code = "\n".join(blocks("python"))
    assert code.count("import gymnasium") and "WindowLoader" in code
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_every_command_and_file_it_names_exists():
    named = set(re.findall(r"genie-gym ([a-z][a-z-]+)", README))
    assert named and named <= COMMANDS.keys()
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        if not link.startswith("http"):
            assert (ROOT / link).exists(), link
    for target in re.findall(r"^make (\w+)", "\n".join(blocks("bash")), re.MULTILINE):
        assert f"\n{target}:" in (ROOT / "Makefile").read_text()


def test_its_figures_are_those_of_the_committed_results():
    figures = re.findall(r"\| ([\d.]+) \| `(\w+)\.(\w+)` \|", README)
    assert len(figures) > 8
    for shown, benchmark, key in figures:
        result = json.loads((ROOT / "benchmarks" / "results" / f"{benchmark}.json").read_text())
        digits = len(shown.partition(".")[2])
        assert f"{result['figures'][key]:.{digits}f}" == shown, key
