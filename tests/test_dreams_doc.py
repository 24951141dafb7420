"""The Python of docs/dreams.md runs as it stands there, in order, and its figures are measured."""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "dreams.md").read_text()


def test_the_code_runs(coinrun_world, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) > 6
    subprocess.run([sys.executable, "-c", "\n".join(blocks)], cwd=tmp_path, check=True)


def test_its_figures_are_those_of_the_committed_results():
    figures = re.findall(r"\| (-?[\d,.]+) \| `(\w+)\.(\w+)` \|", TEXT)
    assert len(figures) > 3
    for shown, benchmark, key in figures:
        result = json.loads((ROOT / "benchmarks" / "results" / f"{benchmark}.json").read_text())
        digits = len(shown.partition(".")[2])
        assert f"{result['figures'][key]:,.{digits}f}" == shown, key
