"""Where a chart's lines come to lie."""

import re

import pytest

from roiae.page.charts import BOTTOM, HEIGHT, LEFT, RIGHT, WIDTH
from roiae_server.report.charts import curve_chart, entropy_chart
from tests.server.report.conftest import arm_of_shift

CURVES = {
    "phase1": {"alpha": [[0, 10.0], [2, 20.0]], "gamma": [[2, 15.0]]},
    "control": {"alpha": [[2, 20.0], [4, 18.0]]},
}


def places(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](\S+) ([^L]+)", path)]


def test_a_curve_spans_the_rounds_and_rises_where_the_value_does() -> None:
    chart = curve_chart("PSNR dB", CURVES, ["alpha", "beta", "gamma"], began=2)
    first, last = places(chart.marks[0].path)

    assert (first[0], chart.rule) == (LEFT, last[0])
    assert last[1] < first[1] < HEIGHT - BOTTOM  # upwards is a smaller number
    assert places(chart.marks[2].path)[-1][0] == WIDTH - RIGHT


def test_a_site_keeps_its_colour_the_control_is_dashed_and_a_lone_score_is_a_dot() -> None:
    alpha, gamma, control = curve_chart("PSNR dB", CURVES, ["alpha", "beta", "gamma"], began=2).marks

    assert (alpha.colour, gamma.colour, control.colour) == (0, 2, 0)
    assert (alpha.dashed, control.dashed) == (False, True)
    assert (len(alpha.dots), len(gamma.dots)) == (0, 1)


def test_a_chart_says_its_values_to_who_cannot_see_it() -> None:
    text = curve_chart("PSNR dB", CURVES, ["alpha", "beta", "gamma"], began=2).text

    assert text == "PSNR dB by round. alpha, phase 1: 10 to 20; gamma, phase 1: 15; alpha, control: 20 to 18."


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_a_curve_that_never_changes_still_has_a_place(value: float) -> None:
    chart = curve_chart("ROI MAE", {"phase1": {"alpha": [[0, value]]}}, ["alpha"], began=1)

    assert chart.marks[0].dots[0][0] == LEFT


def test_histograms_hold_the_share_of_each_sides_frames() -> None:
    arm = arm_of_shift(0.9)
    sources, held_out = entropy_chart("Entropy", "nats", arm["provenance"]).marks
    floor = HEIGHT - BOTTOM

    heights = [[floor - y for _, y in places(mark.path)[1:-1:2]] for mark in (sources, held_out)]

    assert heights[0][0] / heights[0][1] == pytest.approx(3, rel=0.01)
    assert heights[1][1] / heights[1][0] == pytest.approx(2, rel=0.01)
