"""Where the dots of an experiment's charts come to lie, and what is said to who cannot see them."""

import re

import pytest

from roiae.page.charts import BOTTOM, HEIGHT, TOP, Mark
from roiae_lab.reproduce.charts import BY_HAND, change_charts, shift_charts, weights_chart
from roiae_lab.reproduce.tables import Results
from tests.lab.reproduce.conftest import MakeResult, scores


@pytest.fixture
def results(whole: MakeResult) -> Results:
    better = (scores(psnr=psnr, roi_mae=0.08, roi_edge_mae=0.16) for psnr in (20.1, 20.3))
    return {"c": [whole(seed, method=of) for seed, of in enumerate(better)], "with-a-very-long-name": [whole()]}


def height(mark: Mark) -> float:
    """Of a level line."""
    ((y, *_),) = {tuple(set(re.findall(r"[ML]\S+ ([\d.]+)", mark.path)))}
    return float(y)


def test_a_change_has_a_dot_a_seed_their_mean_and_its_bound(results: Results) -> None:
    validation, held_out, *_ = change_charts({"c": results["c"]})
    bound, bar, dots, *_ = validation.marks

    assert [len(change_charts(results)), len(dots.dots)] == [6, 2]
    assert height(bar) == pytest.approx(sum(y for _, y in dots.dots) / 2, abs=0.2)
    assert height(bound) < height(bar), "upwards is more, and +0.20 dB misses +0.30"
    assert held_out.title == "PSNR dB, held-out frames"


def test_phase_1_and_the_control_are_told_apart_without_colour(results: Results) -> None:
    marks = change_charts(results)[0].marks

    assert [mark.dashed for mark in marks if mark.dots] == [False, True]
    assert [mark.dashed for mark in marks if mark.name == "bound"] == [False, True]


def test_bounds_and_no_change_are_always_in_the_picture(results: Results) -> None:
    for chart in change_charts(results):
        assert "0" in {text for _, text in chart.y_ticks}
        for mark in chart.marks:
            assert mark.name != "bound" or TOP <= height(mark) <= HEIGHT - BOTTOM


def test_a_chart_says_every_seed_to_who_cannot_see_it(results: Results) -> None:
    text = change_charts(results)[0].text

    assert text.startswith(
        "PSNR dB, validation frames, by held-out hospital. Against phase 1 (bound +0.30): "
        "c +0.20 (seeds +0.10, +0.30); with-a-very-long-name +0.50. Against control (bound −0.02): c +0.20"
    )


def test_a_long_name_is_cut_where_it_would_meet_the_next(results: Results) -> None:
    many = {f"{name}-{index}": of for index in range(4) for name, of in results.items()}

    texts = [text for _, text in change_charts(many)[0].x_ticks]

    assert texts[:2] == ["c-0", "with-a…"]


def test_a_score_that_was_never_computed_has_no_chart(results: Results, whole: MakeResult) -> None:
    without = {"phase1": {"auroc": 0.5}, "phase2": {"auroc": 0.6}}

    assert shift_charts(results)[0].title == "Mahalanobis AUROC"
    (chart,) = shift_charts({"c": [whole(shift=without)], "d": [whole(shift={"phase1": {}, "phase2": {}})]})
    assert chart.text == (
        "Mahalanobis AUROC, by held-out hospital. Phase 1: c 0.500; d not computed. Phase 2: c 0.600; d not computed."
    )


def test_weights_lie_among_those_that_were_picked_by_hand(results: Results) -> None:
    chart = weights_chart(results)
    calibrated, _, by_hand = chart.marks

    assert (len(calibrated.dots), by_hand.name, len(by_hand.dots), by_hand.dashed) == (2, BY_HAND, 5, True)
    (x, y), corners = calibrated.dots[0], sorted(by_hand.dots)
    assert x < corners[0][0], "0.25 is left of 0.3"
    assert corners[0][1] != y
    assert "c: 0.25 and 0.5, 0.25 and 0.5;" in chart.text
    assert [text for _, text in chart.x_ticks] == ["0.3", "1", "3"]


def test_weights_stand_alone_where_no_grid_was_trained(make_result: MakeResult) -> None:
    result = make_result(method=scores())

    (mark,) = weights_chart({"c": [result]}).marks

    assert len(mark.dots) == 1
