"""docs/reading.md: the files and functions that it names exist."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reading.md"
TEXT = PAGE.read_text()
FOLDERS = ("world_models", "genie_gym", "agents", "benchmarks", "tests", "docs")
SPANS = re.findall(r"`([^`\n]+)`", TEXT)
REFERENCES = [
    span.partition(":") for span in SPANS if span.startswith(tuple(f"{f}/" for f in FOLDERS))
]


@cache
def defined(path: Path) -> set[str]:
    """The classes and functions of a file, methods as ``Class.method``."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {
                f"{node.name}.{inner.name}"
                for inner in node.body
                if isinstance(inner, ast.FunctionDef)
            }
    return names


def test_every_path_exists():
    assert len(REFERENCES) > 30
    for path, _, _ in REFERENCES:
        assert (ROOT / path).exists(), path


def test_every_name_beside_a_path_is_defined_there():
    named = [(path, name) for path, colon, name in REFERENCES if colon]
    assert len(named) > 20
    for path, name in named:
        assert name in defined(ROOT / path), f"{name} is not in {path}"


def test_every_class_and_method_without_a_path_is_in_a_file_the_page_names():
    known = set().union(
        *(defined(ROOT / path) for path, _, _ in REFERENCES if path.endswith(".py"))
    )
    names = [
        span
        for span in SPANS
        if re.fullmatch(r"_?[A-Z]\w*(\.\w+)?", span) and span != "Class.method"
    ]
    assert len(names) > 10
    assert set(names) <= known, set(names) - known
