"""What is imported is declared, what is declared is imported, and what is missing is told."""

import ast
import configparser
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from world_models.extras import MissingDependencyError, require

ROOT = Path(__file__).parents[1]
PACKAGES = ("world_models", "genie_gym", "agents", "benchmarks")
# The names under which distributions are imported, where they differ.
IMPORTED_AS = {
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "procgen2": "procgen",
}
# Of the extra `dev`, what tests and checks use; tests/ and make are where those are needed.
TOOLS = {
    "pytest",
    "pytest-timeout",
    "pytest-xdist",
    "hypothesis",
    "moviepy",
    "setuptools",
    "ruff",
    "mypy",
    "pre-commit",
    "build",
    "mkdocs-material",
    "mkdocstrings",
    "pandas",  # only its version is declared: rliable imports it
}


def declared() -> dict[str, set[str]]:
    """Import names by extra, the extras in it resolved; under "" those of every installation."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = {"": config["options"]["install_requires"], **config["options.extras_require"]}
    found: dict[str, set[str]] = {}
    for extra, lines in listed.items():
        names = set()
        for line in filter(None, (line.partition("#")[0].strip() for line in lines.splitlines())):
            name, others = re.match(r"([\w.-]+)(?:\[([\w,]+)\])?", line).groups()
            if name == "genie-gym":
                names |= {inner for other in others.split(",") for inner in found[other]}
            elif name not in TOOLS:
                names.add(IMPORTED_AS.get(name, name.replace("-", "_")))
        found[extra] = names
    return found


def used() -> Iterator[tuple[Path, str, str | None, bool]]:
    """File, package, the extra that `require` asks for, and whether importing the file needs it."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text())
            inner = {
                id(node)
                for outer in ast.walk(tree)
                if isinstance(outer, ast.FunctionDef | ast.Lambda) or _for_types(outer)
                for node in ast.walk(outer)
            }
            for node in ast.walk(tree):
                for name, extra in _named(node):
                    yield path, name.split(".")[0], extra, id(node) not in inner


def _for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _named(node: ast.AST) -> list[tuple[str, str | None]]:
    if isinstance(node, ast.Import):
        return [(alias.name, None) for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [(node.module, None)]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        function = ast.unparse(node.func).rpartition(".")[2]
        if function == "require":
            extras = [keyword.value.value for keyword in node.keywords if keyword.arg == "extra"]
            return [(node.args[0].value, extras[0])]
        if function == "find_spec":
            return [(node.args[0].value, None)]
    return []


def foreign() -> list[tuple[Path, str, str | None, bool]]:
    own = sys.stdlib_module_names | set(PACKAGES)
    return [use for use in used() if use[1] not in own]


def test_what_is_imported_is_declared():
    known = declared()
    anywhere = set().union(*known.values())
    for path, name, extra, at_once in foreign():
        where = f"{path.relative_to(ROOT)} imports {name}"
        assert name in anywhere, f"{where}, which setup.cfg does not have"
        if extra is not None:
            assert name in known[extra], f"{where} of the extra {extra}, which does not bring it"
        elif at_once:
            assert name in known[""], f"{where} at once, which only an extra brings: use require"


def test_what_is_declared_is_imported():
    used_by_others = {"array_api_compat"}  # Gymnasium's wrappers import it and do not ask for it
    idle = set().union(*declared().values()) - {name for _, name, _, _ in foreign()}
    idle -= used_by_others
    assert not idle, f"nobody imports {idle}: remove them from setup.cfg"


def test_all_and_dev_have_what_they_say():
    known = declared()
    kept_out = known["wandb"] | known["fid"]
    features = {name for extra in known for name in known[extra] if extra not in ("", "dev")}
    assert known["all"] == features - kept_out
    assert known["all"] < known["dev"]


def test_a_constraint_for_everything_in_dev():
    constraints = (ROOT / "constraints.txt").read_text().lower().replace("_", "-")
    pinned = set(re.findall(r"^([\w.-]+)==", constraints, re.MULTILINE))
    names = {name: distribution for distribution, name in IMPORTED_AS.items()}
    known = declared()
    wanted = {names.get(name, name).replace("_", "-") for name in known[""] | known["dev"]}
    assert wanted | TOOLS <= pinned


def test_require_gives_the_module_or_says_what_to_type(monkeypatch):
    assert require("json.decoder", extra="train", what="reading needs JSON").JSONDecoder
    for name in ("lightning", "lightning.fabric"):  # another test may have imported both
        monkeypatch.setitem(sys.modules, name, None)
    said = r"^training needs Lightning \(.*lightning.*\)\. Run: pip install 'genie-gym\[train\]'$"
    with pytest.raises(MissingDependencyError, match=said):
        require("lightning.fabric", extra="train", what="training needs Lightning")


COMMAND = """
import sys
sys.modules[sys.argv[1]] = None  # importing it raises ImportError
from genie_gym.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    ("missing", "extra", "command"),
    [
        ("lightning", "train", "train tokenizer coinrun --data x --out y"),
        ("torchmetrics", "bench", "bench fidelity"),
        ("torchmetrics", "bench", "demo"),
        ("minari", "minari", "bench data-speed --quick"),
        ("starlette", "play", "play"),
    ],
)
def test_a_command_without_its_extra_says_what_to_type(missing, extra, command, tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", COMMAND, missing, *command.split()],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert f"Run: pip install 'genie-gym[{extra}]'" in run.stderr
    assert "Traceback" not in run.stderr and not any(tmp_path.iterdir())


def test_dreaming_and_training_know_nothing_of_other_extras():
    """`--help` of all commands, and speed without training, in a plain installation."""
    extras = {name for extra, names in declared().items() if extra for name in names}
    code = "import sys\n"
    code += f"for name in {sorted(extras)}: sys.modules[name] = None\n"
    code += "import genie_gym.envs.genie, genie_gym.data.commands, genie_gym.collect.command\n"
    code += "import agents.explore, agents.loop.command, agents.train, world_models.train\n"
    code += "import genie_gym.worlds_commands, genie_gym.retroact.games_commands\n"
    code += "import benchmarks.env_speed, benchmarks.data_speed, benchmarks.generation_speed\n"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
