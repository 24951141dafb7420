"""The README and docs/: code runs or says why not, commands parse, links lead somewhere, figures
are those of the committed results."""

import importlib.util
import re
import shutil
from types import SimpleNamespace

import pytest

from genie_gym.cli import COMMANDS
from tests.docs_pages import (
    DOCS,
    PAGES,
    ROOT,
    anchors,
    blocks,
    check_command,
    figures,
    links,
    name_of,
    own_command,
    prose,
)

BY_NAME = {name_of(page): page for page in PAGES}
# A page whose code another test runs, at small size.
RUN_ELSEWHERE = {"docs/train_in_a_dream.md": "test_train_in_a_dream_doc.py"}
# What a command gets besides, so that it takes seconds.
SMALLER = {
    "collect": "--episodes 4 --max-steps 24",
}
SMALLER_CODE = {"steps=500": "steps=2, warmup_steps=1"}
WITH_CODE = [
    name
    for name, page in BY_NAME.items()
    if name not in RUN_ELSEWHERE
    and any(block.language in ("python", "bash") and not block.not_run for block in blocks(page))
]


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """A small dataset of the real CoinRun."""
    from genie_gym.collect.command import CollectConfig, collect

    out = tmp_path_factory.mktemp("collected") / "coinrun"
    assert collect(CollectConfig(env="Procgen/CoinRun-v0", out=out, episodes=12, max_steps=60)) == 0
    return out


@pytest.fixture
def folder(tmp_path, collected, coinrun_world, one_thread, monkeypatch):
    """A folder with what the commands of other pages make, and a world that may be changed."""
    from world_models.worlds.find import VARIABLE

    shutil.copytree(collected, tmp_path / "data" / "coinrun")
    shutil.copytree(coinrun_world, tmp_path / "found" / coinrun_world.name)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "found"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", WITH_CODE)
def test_the_code_runs(name, folder):
    """First the commands in order, then the Python in order, in one folder."""
    runnable = [block for block in blocks(BY_NAME[name]) if not block.not_run]
    python = [block for block in runnable if block.language == "python"]
    for module in re.findall(r"[Ss]ave this as `(\w+)\.py`", prose(BY_NAME[name])):
        (folder / f"{module}.py").write_text(python[0].text)
    for command in [c for block in runnable if block.language == "bash" for c in block.commands()]:
        main, arguments = own_command(command)
        assert main([*arguments, *SMALLER.get(arguments[0], "").split()]) == 0, command
    names = {"__name__": name}
    for block in python:
        code = "\n" * (block.line - 1) + block.text
        for large, small in SMALLER_CODE.items():
            code = code.replace(large, small)
        exec(compile(code, BY_NAME[name], "exec"), names)


@pytest.mark.parametrize("name", BY_NAME)
def test_each_block_is_run_or_says_why_not(name):
    for block in blocks(BY_NAME[name]):
        where = f"{name}:{block.line}"
        assert block.language in ("python", "bash", "json", "text"), (
            f"{where}: a block without language"
        )
        for command in block.commands() if block.language == "bash" and not block.not_run else ():
            assert own_command(command), f"{where}: {command} is not run and does not say why"
        for test in re.findall(r"tests/\w+\.py", block.not_run or ""):
            assert (ROOT / test).exists(), f"{where}: {test}"
    for test in RUN_ELSEWHERE.values():
        assert (ROOT / "tests" / test).exists()


@pytest.mark.parametrize("name", BY_NAME)
def test_each_command_is_understood(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for block in blocks(BY_NAME[name]):
        for command in block.commands() if block.language == "bash" else ():
            if own_command(command):
                for word in filter(re.compile(r"[a-z][\w-]+/[\w/-]+").fullmatch, command.split()):
                    (tmp_path / word).mkdir(parents=True, exist_ok=True)  # a folder it expects
                check_command(command)
            elif command.startswith("make "):
                assert f"\n{command.split()[1]}:" in (ROOT / "Makefile").read_text()
    text = prose(BY_NAME[name])
    assert set(re.findall(r"`genie-gym ([a-z][a-z-]+)", text)) <= {*COMMANDS, "completion"}
    for module in re.findall(r"`python -m (benchmarks[a-z_.]*[a-z])\b", text):
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").exists(), module
    for extras in re.findall(r"'(?:\.|genie-gym)\[([\w,]+)\]'", BY_NAME[name].read_text()):
        known = (ROOT / "setup.cfg").read_text()
        assert all(f"\n{extra} =\n" in known for extra in extras.split(",")), extras


def test_an_unknown_option_is_found():
    with pytest.raises(AssertionError):
        check_command("genie-gym collect Procgen/CoinRun-v0 --episode 3 --out x")
    with pytest.raises(AssertionError):
        check_command("genie-gym bench transfer --worlds Pong --jsn x")
    with pytest.raises(AssertionError, match="no such command"):
        check_command("genie-gym explode")


@pytest.mark.parametrize("name", [*BY_NAME, "CHANGELOG.md"])
def test_links_lead_somewhere(name):
    page = ROOT / name
    for link in links(page):
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists() and path.is_relative_to(ROOT), f"{name}: {link}"
        if anchor:
            assert anchor in anchors(path), f"{name}: {link}"


@pytest.mark.parametrize("name", BY_NAME)
def test_figures_are_those_of_the_committed_results(name):
    for figure in figures(BY_NAME[name].read_text()):
        assert figure.shown == figure.expected, (
            f"{figure.key}: python -m tests.docs_pages writes the new figures"
        )


def test_the_pages_have_figures():
    counts = {name: len(figures(page.read_text())) for name, page in BY_NAME.items()}
    assert counts["README.md"] > 4 and counts["docs/speed.md"] > 15
    assert counts["docs/shipped_worlds.md"] > 60 and counts["docs/autoexplore.md"] > 60
    assert sum(counts.values()) > 200


def test_what_the_reference_documents_exists():
    names = [
        name
        for page in (DOCS / "reference").glob("*.md")
        for name in re.findall(r"^::: ([\w.]+)$", page.read_text(), re.MULTILINE)
    ]
    assert len(names) > 40 and len(names) == len(set(names))
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert getattr(importlib.import_module(module), attribute).__doc__, name


def test_the_readme_is_short_and_reaches_every_page():
    readme = ROOT / "README.md"
    assert len(readme.read_text().splitlines()) < 150
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in links(readme)}
    pages = {page for page in DOCS.glob("*.md")} - {DOCS / "index.md"}
    assert pages <= linked, pages - linked


def test_the_site_mends_links_out_of_docs_and_tells_of_dead_ones(caplog):
    spec = importlib.util.spec_from_file_location("site_hooks", DOCS / "hooks.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)

    def mended(text):
        page = SimpleNamespace(file=SimpleNamespace(src_uri="x.md"))
        return hooks.on_page_markdown(text, page, None, None)

    kv_cache = "../world_models/model/kv_cache.py"
    assert mended(f"[kv_cache.py]({kv_cache})") == (
        "[kv_cache.py][world_models.model.kv_cache.KVCache]"
    )
    assert mended("[the command](../Makefile)") == "the command (`Makefile`)"
    assert mended("[CHANGELOG.md](../CHANGELOG.md)") == "[CHANGELOG.md](changelog.md)"
    assert mended("[a](model.md#sizes)") == "[a](model.md#sizes)" and not caplog.records
    mended("[gone](../gone.py)")
    assert [record.levelname for record in caplog.records] == ["WARNING"]  # fails a strict build
