"""A real browser without a screen: it shows a page once, or is driven as a person would."""

from __future__ import annotations

import re
import subprocess
import tempfile
from html import unescape
from pathlib import Path

from benchmarks.browser import (
    FLAGS,
    browser,
    complaints,
    driven,
    prefer,
    requests,
    resize,
    until,
)

__all__ = [
    "browser",
    "complaints",
    "driven",
    "prefer",
    "rendered",
    "requests",
    "resize",
    "until",
    "visible_text",
]

# For a page that is shown once: its console, and its scripts' waits at once.
ONCE = ("--enable-logging=stderr", "--virtual-time-budget=3000")


def rendered(page: Path, *flags: str) -> tuple[str, list[str]]:
    """The page's document after its scripts ran, and what the console said."""
    with tempfile.TemporaryDirectory() as profile:
        result = subprocess.run(
            [
                browser(),
                *FLAGS,
                *ONCE,
                *flags,
                f"--user-data-dir={profile}",
                "--dump-dom",
                page.as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    return result.stdout, [line for line in result.stderr.splitlines() if "CONSOLE" in line]


def visible_text(document: str) -> str:
    """What a document says to a reader."""
    without = re.sub(r"<(script|style)[^>]*>.*?</\1>", " ", document, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", without)).split())
