"""Draw the figures for docs/model.md, and write its tables from the code and results.

Run: python -m benchmarks.studies.model_page
"""

from __future__ import annotations

import json
import re
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import prog
from benchmarks.studies.ablation import table
from benchmarks.studies.model_pictures import architecture, visibility
from world_models import presets
from world_models.inference.world import WorldModel
from world_models.model.transformer import TransformerConfig
from world_models.parts import TokenizerConfig
from world_models.tokenizers.motion.displacement import DISPLACEMENTS
from world_models.tokenizers.motion.patch_codebook import PatchCodebookConfig

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "benchmarks" / "results" / "ablation.json"
PICTURES = {"architecture": architecture, "visibility": visibility}
PRESETS: Mapping[str, Callable[[], presets.WorldConfig]] = {
    "paper": presets.paper,
    "small": presets.small,
    "coinrun": presets.coinrun,
    "atari": presets.atari,
    "atari_many": presets.atari_many,
}
PARTS = ("tokenizer", "dynamics", "latent_action")


def untrained(config: presets.WorldConfig) -> WorldModel:
    """Return a world model on the meta device, without memory for its weights."""
    with torch.device("meta"):
        return presets.build(config, latent_action=True)


def num_weights(world: WorldModel) -> dict[str, int]:
    """Return the number of weights in each part of a world model."""
    return {name: sum(p.numel() for p in getattr(world, name).parameters()) for name in PARTS}


def sizes() -> list[dict[str, Any]]:
    """Return a table row with the sizes of each preset."""
    rows = []
    for name, preset in PRESETS.items():
        config, world = preset(), untrained(preset())
        weights, space = num_weights(world), world.tokenizer.space
        rows.append(
            {
                "preset": f"`{name}`",
                "tokens per frame": f"{space.grid[0]} x {space.grid[1]}",
                "codes": f"{space.num_codes} x {space.code_dim}",
                "tokenizer": f"{_networks(config.tokenizer)}, {_millions(weights['tokenizer'])}",
                "dynamics": f"{_blocks(config.dynamics.transformer)}, "
                f"{_millions(weights['dynamics'])}",
                "latent actions": _millions(weights["latent_action"]),
            }
        )
    return rows


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format rows as a Markdown table; the columns are the keys of the first row."""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns)]
    lines += [[str(row.get(column, "")) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_tables(page: str, tables: Mapping[str, str]) -> str:
    """Replace the text between ``<!-- name -->`` and ``<!-- end -->`` with each named table."""
    for name, text in tables.items():
        begin, end = f"<!-- {name} -->", "<!-- end -->"
        pattern = f"{re.escape(begin)}.*?{re.escape(end)}"
        page, found = re.subn(pattern, lambda _: f"{begin}\n{text}\n{end}", page, flags=re.DOTALL)  # noqa: B023
        if not found:
            raise ValueError(
                f"the page has no markers for the table {name!r}: add {begin} ... {end}"
            )
    return page


def tables() -> dict[str, str]:
    """Return the tables for docs/model.md by name."""
    figures = json.loads(RESULT.read_text())["figures"]
    return {"sizes": markdown(sizes()), "ablation": markdown(table(figures))}


def main(argv: list[str] | None = None) -> int:
    """Draw the figures and update the page; return the exit status."""
    ArgumentParser(prog=prog("studies.model_page"), description=__doc__).parse_args(argv)
    folder, page = ROOT / "docs" / "images" / "model", ROOT / "docs" / "model.md"
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        (folder / f"{name}.svg").write_text(draw())
    page.write_text(with_tables(page.read_text(), tables()))
    return 0


def _blocks(config: TransformerConfig) -> str:
    return f"{config.num_layers} blocks of {config.dim}"


def _networks(config: TokenizerConfig) -> str:
    """Describe a tokenizer's networks."""
    if isinstance(config, PatchCodebookConfig):
        return f"{config.num_codes - DISPLACEMENTS} patches"
    return f"2 x {_blocks(config.transformer)}"


def _millions(number: int) -> str:
    return f"{number / 1e6:.1f}M"


if __name__ == "__main__":
    main()
