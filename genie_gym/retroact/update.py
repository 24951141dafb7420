"""Updates the table of games from the installed stable-retro.

After a stable-retro release, run `python -m genie_gym.retroact.update`. After a probe, pass the
folder with the probe results as an argument. Labels are kept; games without labels are listed.
"""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

from genie_gym.retroact import roms
from genie_gym.retroact.catalogue import TABLE
from genie_gym.retroact.labels import CONTROLS, Labels

__all__ = ["main", "mark_measured", "table_text", "unlabelled"]

_COLUMNS = ["game", "platform", "default_state", "num_states"]


def table_text() -> str:
    """Returns the updated table, with the label columns of the existing table."""
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


def mark_measured(table: str, probes: Path) -> str:
    """Marks control labels as measured if the probe results in a folder confirm them."""
    from genie_gym.retroact.measured import confirmed_controls, measured_words

    words = measured_words(probes)
    reader = csv.DictReader(io.StringIO(table))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(reader.fieldnames or ()), lineterminator="\n")
    writer.writeheader()
    for row in reader:
        if row["game"] in words:
            found = confirmed_controls(Labels.from_row(row), words[row["game"]])
            row["measured"] = " ".join(found)
            if len(found) == len(CONTROLS):
                row["controls_evidence"] = "measured"
        writer.writerow(row)
    return text.getvalue()


def unlabelled(table: str) -> list[str]:
    """Returns the games of a table that have no labels yet."""
    rows = csv.DictReader(io.StringIO(table))
    return [row["game"] for row in rows if not Labels.from_row(row).evidence]


def main(argv: list[str]) -> None:
    """Replaces the table that ships with the package."""
    text = table_text()
    if argv:
        text = mark_measured(text, Path(argv[0]))
    TABLE.write_text(text, encoding="utf-8")
    print(f"wrote {text.count(chr(10)) - 1} games to {TABLE}")
    new = unlabelled(text)
    if new:
        print(f"{len(new)} of them have no labels yet: {', '.join(new)}")


if __name__ == "__main__":
    main(sys.argv[1:])
