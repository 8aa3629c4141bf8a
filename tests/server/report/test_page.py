"""`report.html` as a browser, a screen reader and a privacy officer meet it; read by the standard library's parser."""

import base64
import inspect

import pytest

from roiae_server.report.facts import gather
from roiae_server.report.page import model_card, real_page, simulation_page
from tests.server.report.conftest import MakeRun, scored
from tests.web_page import Page, assert_loads_nothing, assert_readable_by_ear, assert_shows_no_pixel

PNG = b"\x89PNG not really"


@pytest.fixture(params=["real", "simulation"])
def content(request: pytest.FixtureRequest, make_run: MakeRun) -> bytes:
    if request.param == "real":
        return real_page(gather(make_run()))
    return simulation_page(gather(make_run(simulated=True)), PNG)


def test_nothing_is_loaded_from_anywhere(content: bytes) -> None:
    assert_loads_nothing(content)
    for attributes in Page(content).all("a", "img"):
        assert (attributes.get("href") or attributes.get("src") or "").startswith(("#", "data:image/png;base64,"))


def test_a_screen_reader_finds_its_way(content: bytes) -> None:
    page = Page(content)

    assert_readable_by_ear(page)
    assert len(list(page.all("table"))) >= 7
    assert sum(attributes.get("role") == "img" for attributes in page.all("svg")) == 4 + 6


def test_the_sections_stand_in_their_order(make_run: MakeRun) -> None:
    sections = ["Summary", "Quality", "Domain shift", "Curves", "What ran", "Bytes and hours"]

    assert Page(real_page(gather(make_run()))).texts_in("h2") == sections
    assert Page(simulation_page(gather(make_run("second", simulated=True)), PNG)).texts_in("h2") == [
        *sections[:2], "Reconstructions", *sections[2:]
    ]  # fmt: skip


def test_the_best_of_a_hospitals_models_is_bold(make_run: MakeRun) -> None:
    bold = Page(real_page(gather(make_run()))).texts_in("strong")

    assert (
        bold == ["20.20", "0.5100", "0.1800", "0.3000"] * 4
    )  # all sources, then each hospital; by control and phase 2


def test_the_nt_stands_beside_the_measures_and_a_dash_where_it_was_never_read(make_run: MakeRun) -> None:
    facts = gather(make_run())
    facts["quality"]["phase2"]["gamma"] = {"nt_frames": 0, **scored((20.0, 0.5, 0.2, 0.4), 60)}

    cells = Page(real_page(facts)).texts_in("td")

    assert (cells.count("0.50 (0.12), n=8"), cells.count("0.50 (0.12), n=16")) == (8, 3)  # hospitals, all sources
    assert "–" in cells


def test_a_score_that_was_not_computed_has_a_reason_and_no_chart(make_run: MakeRun) -> None:
    facts = gather(make_run())
    for arm in ("phase1", "phase2"):
        facts["shift"][arm]["knn"] = {"not_computed": "fewer-frames-than-k", "detail": "3 frames"}

    page = Page(real_page(facts))

    assert sum("neighbour" in title for title in page.texts_in("figcaption")) == 0
    assert page.texts_in("td").count("not computed: fewer-frames-than-k") == 2


def test_no_pixel_is_in_the_report_of_a_real_run(make_run: MakeRun) -> None:
    """The function that makes it takes no picture, and no element that could hold one is on the page."""
    page = real_page(gather(make_run()))

    assert list(inspect.signature(real_page).parameters) == ["facts"]
    assert_shows_no_pixel(page)


def test_a_simulations_report_has_its_picture(make_run: MakeRun) -> None:
    page = simulation_page(gather(make_run(simulated=True)), PNG)

    (image,) = Page(page).all("img")
    assert base64.b64decode((image["src"] or "").removeprefix("data:image/png;base64,")) == PNG


def test_whatever_a_field_holds_is_text(make_run: MakeRun) -> None:
    facts = gather(make_run())
    evil = '<script>alert("1")</script>'
    facts["run"]["name"] = evil
    facts["participants"]["beta"]["not_counted"] = {evil: 1}
    facts["shift"]["left_out"] = {evil: evil}
    facts["summary"][0]["answer"] = evil
    facts["shift"]["sources"] = [evil]
    facts["settings"]["changed"]["seed"] = {"value": evil, "default": '"><img src=x onerror=y>'}

    page = Page(real_page(facts))

    assert not list(page.all("script")) and not list(page.all("img"))
    assert page.texts_in("h1") == [evil]


def test_the_same_facts_give_the_same_bytes(make_run: MakeRun) -> None:
    assert real_page(gather(make_run())) == real_page(gather(make_run("other/first")))


def test_a_model_card_says_what_the_model_must_not_be_used_for(make_run: MakeRun) -> None:
    card = model_card(gather(make_run())).decode()

    for words in (
        "Research use; not a medical device", "| alpha | source | 120 | 30 |", "| gamma | held-out | – | 60 |",
        "| gamma, held out, 60 frames | phase 1 | 20.00 | 0.5000 | 0.2000 | 0.4000 | 0.50 (0.12), n=8 |",
        "Apache-2.0", "AUROC 0.900",
        "by 2 hospitals with roiae 0.1.0; no image left a hospital.",
    ):  # fmt: skip
        assert words in card, words
    assert (
        "in a simulation of 2 hospitals with roiae 0.1.0." in model_card(gather(make_run("s", simulated=True))).decode()
    )


def test_weights_that_were_set_by_hand_stand_in_the_calibrations_place(make_run: MakeRun) -> None:
    run = make_run()
    by_hand = {"ms_ssim": 1.0, "roi_l1": 3.0, "roi_edge": 0.3}
    phase2 = run.config.phase2.model_copy(update={"weights": by_hand})
    run.config = run.config.model_copy(update={"phase2": phase2})

    facts = gather(run)

    assert facts["calibration"]["weights"] == by_hand
    assert "None: the weights of phase 2 were set by hand, ms_ssim 1, roi_l1 3, roi_edge 0.3." in Page(
        real_page(facts)
    ).texts_in("p")
