"""A real browser without a screen, which may reach nothing but the file it is given."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from html import unescape
from pathlib import Path

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--virtual-time-budget=3000",
)
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def browser() -> str:
    """The browser of this machine."""
    for name in NAMES:
        if (path := shutil.which(name)) is not None:
            return path
    raise FileNotFoundError(f"none of {NAMES} is installed: apt-get install chromium")


def rendered(page: Path, *flags: str) -> tuple[str, list[str]]:
    """The page's document after its scripts ran, and what the console said."""
    with tempfile.TemporaryDirectory() as profile:
        result = subprocess.run(
            [browser(), *FLAGS, f"--user-data-dir={profile}", "--dump-dom", *flags, page.as_uri()],
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
