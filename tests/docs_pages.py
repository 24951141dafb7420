"""The pages of the documentation: their blocks of code, their commands, links and figures.

``python -m tests.docs_pages`` writes the figures of the committed results into the pages.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unittest.mock import patch

import tyro

from genie_gym.cli import COMMANDS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r"<!-- not run: ([^\n]+) -->\s*\Z")


@dataclass(frozen=True)
class Block:
    """A block of code of a page.

    Attributes:
        language: What stands after the fence.
        text: Its lines.
        line: Number of the first one in the page.
        not_run: Why it is not run, if the page says so.
    """

    language: str
    text: str
    line: int
    not_run: str | None

    def commands(self) -> list[str]:
        """The commands of a block of bash, without comments; continued lines are joined."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line for line in (_uncommented(line) for line in lines) if line]


def _uncommented(line: str) -> str:
    return re.sub(r"(^|\s)#.*", "", line).strip()


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@cache
def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = []
    for match in BLOCK.finditer(text):
        before = NOT_RUN.search(text[: match.start()])
        line = text.count("\n", 0, match.start(2)) + 1
        found.append(Block(match[1], match[2], line, before[1] if before else None))
    return found


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return BLOCK.sub("", page.read_text())


# Commands ----------------------------------------------------------------------------------


class Parsed(Exception):
    """The arguments of a command were understood; nothing else is done."""


def own_command(line: str) -> tuple[Callable[[list[str]], object], list[str]] | None:
    """The function and the arguments of a command of this package; None for other programs."""
    words = shlex.split(line)
    if words[0] == "torchrun":
        words = words[words.index("-m") - 1 :]
        words[0] = "python"
    if words[0] == "genie-gym" or words[:3] == ["python", "-m", "genie_gym"]:
        from genie_gym.cli import main

        return main, words[1 if words[0] == "genie-gym" else 3 :]
    if words[:2] == ["python", "-m"] and words[2].startswith(("world_models", "benchmarks")):
        return importlib.import_module(words[2]).main, words[3:]
    return None


def check_command(line: str) -> None:
    """Raise AssertionError unless the command's own parser understands the line."""
    found = own_command(line)
    assert found is not None, f"not a command of this package: {line}"
    main, arguments = found
    if main.__module__ == "genie_gym.cli":
        assert arguments and arguments[0] in COMMANDS, f"no such command: {line}"
        module, function = COMMANDS[arguments[0]][0].split(":")
        main, arguments = getattr(importlib.import_module(module), function), arguments[1:]
    try:
        with _only_parsing():
            status = main(arguments)
    except Parsed:
        return
    except (SystemExit, ValueError) as refused:
        raise AssertionError(f"{line}: {refused}") from refused
    assert status == 0, line  # a list, such as that of `genie-gym bench`


def _only_parsing() -> ExitStack:
    """Whatever is parsed is an exception."""
    stack = ExitStack()
    for owner, name in (
        (tyro, "cli"),
        (tyro.extras, "overridable_config_cli"),
        (argparse.ArgumentParser, "parse_args"),
    ):
        stack.enter_context(patch.object(owner, name, _then_stop(getattr(owner, name))))
    return stack


def _then_stop(parse: Callable[..., object]) -> Callable[..., object]:
    def parse_and_stop(*args: object, **kwargs: object) -> object:
        parse(*args, **kwargs)
        raise Parsed

    return parse_and_stop


# Links -------------------------------------------------------------------------------------


def links(page: Path) -> Iterator[str]:
    """The targets of all links and pictures within the repository."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" not in target and not target.startswith("mailto:"):
            yield target


def slug(heading: str) -> str:
    """The anchor of a heading, as forges and the site make it."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


@cache
def anchors(page: Path) -> set[str]:
    return {slug(heading) for heading in re.findall(r"^#+ +(.*)$", prose(page), re.MULTILINE)}


# Figures -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """A number of a page that a committed result has.

    Attributes:
        key: File and name of the figure.
        start: Where the number stands in the page.
        shown: The number as the page has it.
        expected: The number as it must be, with as many digits.
    """

    key: str
    start: int
    shown: str
    expected: str


@cache
def result(name: str) -> dict[str, float]:
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    return json.loads(path.read_text())["figures"]


def figures(text: str) -> list[Figure]:
    """Numbers before a cell with `file.key`; and in tables with `file` in the last column, those
    under a heading with (`key`)."""
    beside = re.finditer(r"\| (-?[\d.,]+) \| `(\w+)\.(\w+)`", text)
    found = [_figure(match[2], match[3], match.start(1), match[1]) for match in beside]
    for table in re.finditer(r"^\|(.*)\| file \|\n\|[-| ]+\|\n((?:\|.*\|\n)+)", text, re.MULTILINE):
        keys = [re.search(r"\(`(\w+)`\)", cell) for cell in table[1].split("|")]
        place = table.start(2)
        for row in table[2].splitlines(keepends=True):
            *cells, file = row.strip().strip("|").split("|")
            name = file.strip().strip("`")
            cell_start = place + 1
            for key, cell in zip(keys, cells, strict=True):
                if key:
                    lead = len(cell) - len(cell.lstrip())
                    found.append(_figure(name, key[1], cell_start + lead, cell.strip()))
                cell_start += len(cell) + 1
            place += len(row)
    return found


def _figure(file: str, key: str, start: int, shown: str) -> Figure:
    digits = len(shown.partition(".")[2])
    comma = "," if "," in shown else ""
    expected = f"{result(file)[key]:{comma}.{digits}f}"
    return Figure(f"{file}.{key}", start, shown, "0" if expected == "-0" else expected)


def with_figures(text: str) -> str:
    """The text with the numbers of the committed results."""
    for figure in sorted(figures(text), key=lambda figure: -figure.start):
        end = figure.start + len(figure.shown)
        text = text[: figure.start] + figure.expected + text[end:]
    return text


if __name__ == "__main__":
    for path in PAGES:
        before = path.read_text()
        if (after := with_figures(before)) != before:
            path.write_text(after)
            print(f"new figures: {name_of(path)}")
