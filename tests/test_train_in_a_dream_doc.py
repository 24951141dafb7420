"""The commands and Python of docs/train_in_a_dream.md run as they stand there, at small size."""

import json
import subprocess
import sys

from tests.docs_pages import DOCS, blocks

PAGE = DOCS / "train_in_a_dream.md"

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
    lines = [
        line for block in blocks(PAGE) if block.language == "bash" for line in block.commands()
    ]
    assert len(lines) == 7
    for line in lines:
        subprocess.run(smaller(line), cwd=tmp_path, check=True, timeout=280)
    code = "\n".join(block.text for block in blocks(PAGE) if block.language == "python")
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert (tmp_path / "played.gif").stat().st_size > 1000
    assert len(list((tmp_path / "runs/climber/animations").glob("*.gif"))) == 2
    trained = json.loads((tmp_path / "runs/climber-rounds/round-2/agent/policy.json").read_text())
    assert trained["training"]["world"].endswith("round-1/CrazyClimber")
