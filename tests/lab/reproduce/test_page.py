"""An experiment's `report.html` as a browser, a screen reader and a privacy officer meet it."""

import re

import pytest

from roiae.config import build_config
from roiae_lab.reproduce.claims import CLAIMS
from roiae_lab.reproduce.page import SECTIONS, Ran, experiment_page
from roiae_lab.reproduce.tables import Results, Table, all_tables
from roiae_lab.reproduce.verdicts import judge
from tests.lab.reproduce.conftest import MakeResult, scores
from tests.web_page import Page, assert_loads_nothing, assert_readable_by_ear, assert_shows_no_pixel

EVIL = "<script>alert(1)</script>"


def page_of(results: Results, name: str = "first") -> bytes:
    ran = Ran(
        name=name,
        config=build_config({"model": {"width": 8}}),
        versions={"roiae": "0.1.0", "torch": "2.13.0"},
        arms=["method", "pooled"],
        seeds=[0, 1],
        hospitals=Table("Hospitals", ["hospital", "training frames"], [["a", "30"]]),
        costs=Table("Steps, bytes and hours by arm", ["arm", "trainings"], [["method", "2"]]),
    )
    judgements = [judge(claim, results) for claim in CLAIMS]
    return experiment_page(ran, results, judgements, all_tables(results, judgements))


@pytest.fixture
def results(whole: MakeResult) -> Results:
    return {"c": [whole(0), whole(1)]}


@pytest.fixture
def content(results: Results) -> bytes:
    return page_of(results)


def test_nothing_is_loaded_and_there_is_no_pixel(content: bytes) -> None:
    assert_loads_nothing(content)
    assert_shows_no_pixel(content)


def test_a_screen_reader_finds_its_way(content: bytes) -> None:
    page = Page(content)

    assert_readable_by_ear(page)
    assert page.texts_in("h2") == list(SECTIONS.values())
    assert page.texts_in("figcaption")[0] == "PSNR dB, validation frames"
    assert sum(attributes.get("role") == "img" for attributes in page.all("svg")) == 6 + 3 + 1


def test_links_lead_to_the_runs_beside_it_and_say_where(content: bytes) -> None:
    links = [of for of in Page(content).all("a") if not (of["href"] or "").startswith("#")]

    assert [(of["href"], of["aria-label"]) for of in links] == [
        ("c/seed-0/method/report.html", "c held out, seed 0"),
        ("c/seed-1/method/report.html", "c held out, seed 1"),
    ]


def test_it_has_the_tables_of_the_markdown_cell_for_cell(results: Results, content: bytes) -> None:
    page = Page(content)
    captions, cells = page.texts_in("caption"), page.texts_in("td")

    for table in [table for of in all_tables(results, [judge(c, results) for c in CLAIMS]).values() for table in of]:
        assert table.title in captions
        for row in table.rows:
            assert all(cell in cells for cell in row[1:] if cell), row


def test_a_verdict_is_a_word(content: bytes) -> None:
    assert {"held"} <= set(Page(content).texts_in("td"))


def test_settings_that_differ_stand_in_front(content: bytes) -> None:
    captions = Page(content).texts_in("caption")

    assert captions.index("Settings that differ from their defaults") < captions.index("All settings")
    assert "model.width" in Page(content).texts_in("code")[0]


def test_no_table_of_hospitals_alone_where_none_was(make_result: MakeResult) -> None:
    """Nor a chart of scores that were not computed: what one seed of the method alone leaves is a whole page."""
    page = Page(page_of({"c": [make_result(phase1=scores(), control=scores(), method=scores())]}))

    assert_readable_by_ear(page)
    assert SECTIONS["hospitals"] not in page.texts_in("h2")
    assert sum(attributes.get("role") == "img" for attributes in page.all("svg")) == 6 + 1


def test_whatever_a_field_holds_is_text(results: Results) -> None:
    page = Page(page_of({EVIL: results["c"]}, name=EVIL))

    assert not list(page.all("script"))
    assert page.texts_in("h1") == [EVIL]
    assert all(re.fullmatch(r"[\w%./#-]+", of["href"] or "") for of in page.all("a"))


def test_the_same_results_give_the_same_bytes(results: Results) -> None:
    assert page_of(results) == page_of(results)
