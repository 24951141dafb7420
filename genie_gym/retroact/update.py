"""Writes the table of games anew from the installed stable-retro.

Type `python -m genie_gym.retroact.update` after a release of stable-retro.
"""

from __future__ import annotations

import csv
import io

from genie_gym.retroact import roms
from genie_gym.retroact.catalogue import TABLE

__all__ = ["main", "table_text"]

_COLUMNS = ["game", "platform", "default_state", "num_states"]


def table_text() -> str:
    """The table as it should be; columns that others added to the shipped one are kept."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        kept = {row["game"]: row for row in reader}
        added = [name for name in reader.fieldnames or () if name not in _COLUMNS]
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS + added, lineterminator="\n")
    writer.writeheader()
    for name in roms.installed_games():
        labels = {column: kept.get(name, {}).get(column, "") for column in added}
        writer.writerow(_row(name) | labels)
    return text.getvalue()


def _row(name: str) -> dict[str, str | int]:
    folder = roms.game_dir(name)
    return {
        "game": name,
        "platform": name.rpartition("-")[2],
        "default_state": roms.default_state(folder),
        "num_states": len(roms.states(folder)),
    }


def main() -> None:
    """Replaces the shipped table."""
    text = table_text()
    TABLE.write_text(text, encoding="utf-8")
    print(f"wrote {text.count(chr(10)) - 1} games to {TABLE}")


if __name__ == "__main__":
    main()
