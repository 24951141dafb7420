"""The complete HTML report, written for readers who have not read the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path

from benchmarks.dreams.measure import Measured
from benchmarks.dreams.table import table_rows
from benchmarks.page import sections
from benchmarks.page.definitions import definitions
from benchmarks.report import cell, hardware

__all__ = ["Subject", "page", "write_page"]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The world model and the data that the report describes.

    Attributes:
        name: Name of the world model.
        env_id: Id of the real env.
        mode: Mode in which the frames were generated.
        data: Description of the real episodes in one sentence.
        command: The command that made the report.
        no_fid: Why FID is missing; empty if FID is present.
        meanings: Names of the actions.
    """

    name: str
    env_id: str
    mode: str
    data: str
    command: str
    no_fid: str
    meanings: Sequence[str]


def write_page(path: Path, subject: Subject, measured: Measured) -> None:
    """Write the report to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(subject, measured), encoding="utf-8")


def page(subject: Subject, measured: Measured) -> str:
    """Return the report as self-contained HTML."""
    windows = measured.windows
    title = f"How accurate are the dreams of {subject.name}?"
    body = [
        f"<h1>{escape(title)}</h1>",
        '<p class="soft">A learned world model, compared with '
        f"<code>{escape(subject.env_id)}</code>, the game it was trained on: "
        f"{len(windows)} dreams of {windows.num_steps} frames "
        f"from {windows.num_prompt} real frame{'s' * (windows.num_prompt > 1)} each, on "
        "held-out episodes.</p>",
        sections.verdict(measured),
        sections.player(measured, subject.meanings),
        sections.closeness(measured),
        sections.strips(measured),
        sections.control(measured, subject.meanings),
        sections.events(measured),
        sections.long(measured, subject.meanings),
        sections.calibration(measured),
        "<h2>All numbers</h2>",
        _table(table_rows(measured, subject.no_fid)),
        definitions(windows.num_steps),
        _origin(subject),
    ]
    here = files("benchmarks.page")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{here.joinpath('page.css').read_text()}</style>"
        f"</head><body><main>{''.join(body)}</main>"
        f"<script>{here.joinpath('player.js').read_text()}</script></body></html>\n"
    )


def _table(rows: Sequence[Mapping[str, object]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th{_kind(name)}>{escape(name)}</th>" for name in columns)
    lines = [
        "".join(f"<td{_kind(name)}>{escape(cell(row.get(name)))}</td>" for name in columns)
        for row in rows
    ]
    return (
        f'<div class="card scroll"><table><thead><tr>{head}</tr></thead><tbody>'
        f"{''.join(f'<tr>{line}</tr>' for line in lines)}</tbody></table></div>"
    )


def _kind(column: str) -> str:
    return "" if column == "measure" else ' class="number"'


def _origin(subject: Subject) -> str:
    return (
        "<h2>Where the numbers come from</h2>"
        f"<p>Real episodes: {escape(subject.data)}. Frames were generated in mode "
        f"<b>{escape(subject.mode)}</b> on {escape(hardware())}.</p>"
        f"<p><code>{escape(subject.command)}</code></p>"
    )
