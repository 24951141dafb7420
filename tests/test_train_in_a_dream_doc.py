"""The commands and Python of docs/train_in_a_dream.md run as they stand there, at small size."""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "train_in_a_dream.md").read_text()

AGENT = "--eval-every 64 --num-envs 4 --rollout 16 --batch-size 32 --eval-steps 10 --steps 64"
SMALLER = {  # what each command gets besides, so that it takes seconds
    "collect": "--episodes 2 --max-steps 60",
    "dream-train": f"{AGENT} --max-overpay 0",
    "dream-train --rounds": f"{AGENT} --max-overpay 0 --round-frames 500 --round-steps 2",
    "data": "",
    "bench": "--episodes 8 --max-steps 60 --windows 2 --event-windows 2 --long-dreams 1 "
    "--long-frames 100",
}


def smaller(line: str) -> list[str]:
    words = line.split()
    name = f"{words[1]} --rounds" if "--rounds" in words else words[1]
    return [sys.executable, "-m", "genie_gym.cli", *words[1:], *SMALLER[name].split()]


def test_everything_runs_in_order(tmp_path):
    """In an empty folder; the blocks of Python in one process at the end."""
    lines = re.findall(r"^genie-gym .*$", TEXT, re.MULTILINE)
    assert len(lines) == 6
    for line in lines:
        subprocess.run(smaller(line), cwd=tmp_path, check=True, timeout=280)
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    subprocess.run([sys.executable, "-c", "\n".join(blocks)], cwd=tmp_path, check=True)
    assert (tmp_path / "played.gif").stat().st_size > 1000
    assert len(list((tmp_path / "runs/climber/animations").glob("*.gif"))) == 2
    trained = json.loads((tmp_path / "runs/climber-rounds/round-2/agent/policy.json").read_text())
    assert trained["training"]["world"].endswith("round-1/CrazyClimber")


def test_figures_are_those_of_the_committed_results():
    for page in ("train_in_a_dream", "fidelity", "play", "web"):
        text = (ROOT / "docs" / f"{page}.md").read_text()
        figures = re.findall(r"\| (-?[\d,.]+) \| `(\w+)\.(\w+)` \|", text)
        assert len(figures) > 1
        for shown, benchmark, key in figures:
            result = json.loads((ROOT / f"benchmarks/results/{benchmark}.json").read_text())
            digits = len(shown.partition(".")[2])
            assert f"{result['figures'][key]:.{digits}f}" == shown, key
