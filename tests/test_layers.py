"""Imports go one way: world_models <- genie_gym <- agents <- benchmarks; and import is light."""

import ast
import graphlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("world_models", "genie_gym", "agents", "benchmarks")
FOREIGN = {
    "gymnasium": {"world_models"},
    "stable_baselines3": {"world_models", "genie_gym"},
    "sb3_contrib": {"world_models", "genie_gym"},
    "stable_retro": {"world_models", "agents"},
    "procgen": {"world_models", "agents"},
}


def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports anywhere."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("layer", LAYERS)
def test_no_layer_imports_a_higher_one(layer):
    higher = set(LAYERS[LAYERS.index(layer) + 1 :])
    forbidden = higher | {package for package, layers in FOREIGN.items() if layer in layers}
    files = sorted((ROOT / layer).rglob("*.py"))
    assert files
    for path in files:
        wrong = imported(path) & forbidden
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def project_imports(path: Path, modules: dict[str, Path]) -> set[str]:
    """The project's modules that a file imports, anywhere in it but for types alone."""
    found, waiting = set(), list(ast.parse(path.read_text()).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in modules else node.module)
    return found & modules.keys()


def test_no_imports_go_round():
    files = [path for layer in LAYERS for path in (ROOT / layer).rglob("*.py")]
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in files
    }
    graph = {name: project_imports(path, modules) - {name} for name, path in modules.items()}
    assert len(graph["genie_gym.retroact.catalogue"]) > 1
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the modules


IMPORT = """
import json, sys, time
import gymnasium
begun = time.perf_counter()
import genie_gym
seconds = time.perf_counter() - begun
heavy = [m for m in ("torch", "cv2", "stable_retro", "procgen", "gym", "h5py", "PIL", "pygame",
                     "stable_baselines3") if m in sys.modules]
light = ("world_models.extras", "world_models.worlds")
heavy += [m for m in sys.modules if m.startswith("world_models.") and not m.startswith(light)]
families = [i.split("/")[0] for i in gymnasium.registry]
print(json.dumps([seconds, heavy, families.count("RetroAct"), families.count("Procgen")]))
"""


def test_import_is_light_and_registers_every_id():
    runs = [
        json.loads(subprocess.check_output([sys.executable, "-c", IMPORT], text=True))
        for _ in range(3)
    ]
    seconds, heavy, games, procgen = min(runs)
    assert heavy == []
    assert games > 1000 and procgen == 1
    assert seconds < 0.3, "import genie_gym takes too long beyond gymnasium"


def test_every_folder_of_code_is_packed_into_the_wheel():
    """setuptools finds packages by their __init__.py; a checkout also runs without it."""
    for package in ("world_models", "genie_gym", "agents", "benchmarks"):
        for file in (ROOT / package).rglob("*.py"):
            assert (file.parent / "__init__.py").exists(), file.parent
