"""What mkdocs does besides building the pages of docs/, which also read well without it.

* Links to files outside docs/ become links to the reference, or code; a missing file is a warning,
  which fails the strict build.
* CHANGELOG.md becomes a page.
* The page of the command line gets the help of every command.
"""

import contextlib
import io
import logging
import os
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]*)?\)")
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}
# What some commands are told before they list their options.
EXAMPLES = {
    "train": ["tokenizer coinrun", "dynamics coinrun", "bundle"],
    "train-agent": ["coinrun"],
    "dream-train": ["CrazyClimber"],
    "loop": ["Procgen/CoinRun-v0"],
    "bench": ["fidelity", "transfer", "ranking"],
}
log = logging.getLogger("mkdocs.hooks.genie_gym")


def on_files(files, config):
    """Add the changelog as a page."""
    text = (ROOT / "CHANGELOG.md").read_text().replace("](docs/", "](")
    files.append(File.generated(config, "changelog.md", content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Fix the links of a page; add the help of the commands to their page."""
    place = (DOCS / page.file.src_uri).parent
    documented = _documented()

    def mended(link):
        text, target, anchor = link[1], link[2], link[3] or ""
        if "://" in target or target.startswith("mailto:"):
            return link[0]
        path = (place / target).resolve()
        if path.is_relative_to(DOCS) and not path.is_dir():
            return link[0]  # mkdocs checks it
        if not path.exists() or not path.is_relative_to(ROOT):
            log.warning("%s links to %s, which does not exist", page.file.src_uri, target)
            return link[0]
        name = path.relative_to(ROOT).as_posix()
        if name in PAGES:
            return f"[{text}]({os.path.relpath(DOCS / PAGES[name], place)}{anchor})"
        text = text.strip("`")
        if name in documented:
            return f"[{text}][{documented[name]}]"
        return f"`{name}`" if name.endswith(text.rstrip("/")) else f"{text} (`{name}`)"

    markdown = LINK.sub(mended, markdown)
    if page.file.src_uri == "reference/command_line.md":
        markdown += "\n" + "\n".join(_helps())
    return markdown


def _documented():
    """The first name in the reference of each source file that has one."""
    found = {}
    for page in sorted((DOCS / "reference").glob("*.md")):
        for name in re.findall(r"^::: ([\w.]+)", page.read_text(), re.MULTILINE):
            parts = name.split(".")
            for length in range(len(parts), 0, -1):
                file = Path(*parts[:length]).with_suffix(".py")
                if (ROOT / file).exists():
                    found.setdefault(file.as_posix(), name)
                    break
    return found


def _helps():
    """A section for each command with what `--help` prints, subcommands included."""
    os.environ["COLUMNS"] = "88"
    from genie_gym.cli import COMMANDS

    for name in COMMANDS:
        yield f"## genie-gym {name}\n"
        text = _help(name)
        yield f"```text\n{text}\n```\n"
        for inner in _subcommands(name, text):
            yield f'??? note "genie-gym {name} {inner}"\n'
            yield _indented(f"```text\n{_help(name, *inner.split())}\n```") + "\n"


def _help(*words):
    from genie_gym.cli import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return re.sub(r"\x1b\[[\d;]*m", "", out.getvalue()).strip()


def _subcommands(name, text):
    listed = re.search(r"\{([\w,-]+)\}\n", text.partition("\n\n")[0] + "\n")
    return EXAMPLES.get(name) or (listed[1].split(",") if listed else [])


def _indented(text):
    return "\n".join(f"    {line}" if line else "" for line in text.splitlines())
