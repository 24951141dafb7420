"""docs/model.md shows what the code draws and counts, and what was measured."""

from xml.etree import ElementTree

import pytest

from benchmarks.studies.model_page import (
    PICTURES,
    ROOT,
    num_weights,
    tables,
    untrained,
    with_tables,
)
from world_models import presets

PAGE = ROOT / "docs" / "model.md"
SVG = "{http://www.w3.org/2000/svg}"


def test_its_tables_are_those_of_the_code_and_of_the_committed_result():
    assert PAGE.read_text() == with_tables(PAGE.read_text(), tables()), (
        "python -m benchmarks.studies.model_page brings the page up to date"
    )


@pytest.mark.parametrize("name", PICTURES)
def test_its_pictures_are_those_the_code_draws(name):
    drawn = PICTURES[name]()
    assert (ROOT / "docs" / "images" / "model" / f"{name}.svg").read_text() == drawn
    root = ElementTree.fromstring(drawn)
    _, _, width, height = map(float, root.get("viewBox", "").split())
    for shape in root.iter(f"{SVG}rect"):
        x, y = float(shape.get("x", 0)), float(shape.get("y", 0))
        assert 0 <= x <= x + float(shape.get("width", 0)) <= width
        assert 0 <= y <= y + float(shape.get("height", 0)) <= height
    assert len(list(root.iter(f"{SVG}text"))) > 10


def test_the_published_size_is_that_of_the_publication():
    published = {"tokenizer": 101.6e6, "dynamics": 80.2e6, "latent_action": 168.7e6}
    assert num_weights(untrained(presets.paper())) == pytest.approx(published, rel=0.03)


def test_a_page_without_the_place_for_a_table_is_refused():
    with pytest.raises(ValueError, match="no markers for the table 'sizes'"):
        with_tables("<!-- other -->\n<!-- end -->", {"sizes": "| a |"})
