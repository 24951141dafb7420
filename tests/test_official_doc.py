"""docs/official.md has the committed figures, and the authors' names of their files."""

import json
import re

import tyro

from benchmarks.studies.model_page import with_tables
from benchmarks.studies.official_world import PAGE, RESULT, tables
from genie_gym.import_genieredux import ImportGenieredux
from tests.official_files import FILES

TEXT = PAGE.read_text()


def test_its_tables_are_those_of_the_committed_result():
    figures = json.loads(RESULT.read_text())["figures"]
    assert TEXT == with_tables(TEXT, tables(figures))


def test_its_first_command_is_the_import_of_files_named_as_the_authors_name_them():
    (line,) = re.findall(r"genie-gym worlds import-genieredux (--.*)", TEXT)
    flags = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)
    command = tyro.cli(ImportGenieredux, args=line.split(), config=flags)
    assert str(command.tokenizer) == FILES["2024/tokenizer"]
    assert str(command.dynamics) == FILES["2024/guided"]
    assert FILES["2024/latent"] in TEXT


def test_it_says_what_is_not_verified():
    assert "with the authors' trained files: we have none" in TEXT
