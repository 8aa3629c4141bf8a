"""Claims on figures made by hand: what each verdict needs."""

import pytest

from roiae_lab.reproduce.arms import HAND_PICKED
from roiae_lab.reproduce.claims import CLAIMS, Claim, over_best_hand_picked
from roiae_lab.reproduce.estimates import HELD_OUT, VALIDATION, Spread, changed, measured, worst
from roiae_lab.reproduce.verdicts import Verdict, judge, verdict
from tests.lab.reproduce.conftest import MakeResult, scores


def claim(text: str) -> Claim:
    (found,) = (claim for claim in CLAIMS if claim.text == text)
    return found


@pytest.mark.parametrize(
    ("holds", "expected"),
    [
        ([True, True], "held"),
        ([True, False], "held in part"),
        ([True, None], "held in part"),
        ([False, False], "not held"),
        ([False, None], "not held"),
        ([None, None], "not computed"),
    ],
)
def test_a_verdict_is_of_all_numbers_at_all_hospitals(holds: list[bool | None], expected: Verdict) -> None:
    assert verdict(holds) == expected


def test_the_spread_is_the_sample_standard_deviation() -> None:
    assert Spread.of([1.0, 3.0]) == Spread(2.0, 2**0.5)
    assert Spread.of([1.0]) == Spread(1.0, None)


def test_a_seed_without_a_figure_leaves_no_mean() -> None:
    assert Spread.of([1.0, None]) is None


def test_validation_is_weighted_by_frames_and_the_held_out_hospital_stands_alone(make_result: MakeResult) -> None:
    result = make_result(method={"a": scores(psnr=20.0), "b": scores(psnr=24.0), "c": scores(psnr=10.0)})

    assert measured("method", "psnr", VALIDATION)(result) == pytest.approx(21.0)
    assert measured("method", "psnr", HELD_OUT)(result) == pytest.approx(10.0)


def test_the_worst_hospital_may_be_any(make_result: MakeResult) -> None:
    better, worse = scores(roi_mae=0.09), scores(roi_mae=0.11)
    result = make_result(control=scores(), method={"a": better, "b": worse, "c": better})

    assert worst("control", "method", "roi_mae")(result) == pytest.approx(0.1)


def test_a_bound_is_met_by_the_mean_over_seeds(make_result: MakeResult) -> None:
    seeds = [make_result(seed, phase1=scores(), method=scores(psnr=20 + gain)) for seed, gain in enumerate((0.1, 0.6))]

    judged = judge(claim("PSNR gains over phase 1"), {"c": seeds})

    assert judged.verdict == "held"
    spread = judged.found[0]["c"].spread
    assert spread is not None
    assert [spread.mean, spread.deviation] == pytest.approx([0.35, 0.5 / 2**0.5])


def test_one_hospital_of_two_is_held_in_part(make_result: MakeResult) -> None:
    gained = make_result(phase1=scores(), method=scores(psnr=20.4))
    lost = make_result(phase1=scores(), method=scores(psnr=19.9))

    assert judge(claim("PSNR gains over phase 1"), {"c": [gained], "other": [lost]}).verdict == "held in part"
    assert judge(claim("PSNR gains over phase 1"), {"other": [lost]}).verdict == "not held"


def test_an_arm_that_was_not_run_is_not_computed(make_result: MakeResult) -> None:
    results = {"c": [make_result(phase1=scores(), control=scores(), method=scores())]}
    verdicts = {claim.text: judge(claim, results).verdict for claim in CLAIMS}

    assert verdicts["Federation costs little against pooled training"] == "not computed"
    assert verdicts["Calibrated weights are no worse than the best hand-picked ones"] == "not computed"
    assert verdicts["Ahead of the control inside another ROI too, at every hospital"] == "not computed"
    assert verdicts["Provenance is less clear after phase 2"] == "not computed"
    assert verdicts["ROI edges gain"] == "not held"


def test_equal_is_not_ahead(make_result: MakeResult) -> None:
    results = {"c": [make_result(control=scores(), method=scores())]}

    assert judge(claim("Ahead of the control inside the ROI, at every hospital"), results).verdict == "not held"


def test_a_share_of_nothing_is_not_computed(make_result: MakeResult) -> None:
    result = make_result(phase1=scores(roi_mae=0.0), method=scores())

    assert changed("phase1", "method", "roi_mae", HELD_OUT)(result) is None


def test_the_best_weights_are_chosen_on_validation_and_judged_at_the_held_out_hospital(make_result: MakeResult) -> None:
    grid = dict.fromkeys(HAND_PICKED, scores(roi_mae=0.1))
    by_site = {"a": scores(roi_mae=0.05), "b": scores(roi_mae=0.05), "c": scores(roi_mae=0.2)}
    result = make_result(method=scores(roi_mae=0.1), **{**grid, "equal": by_site})

    assert over_best_hand_picked([result]) == [pytest.approx(-0.5)]


def test_a_grid_with_a_point_missing_has_no_best(make_result: MakeResult) -> None:
    assert over_best_hand_picked([make_result(method=scores(), equal=scores())]) == [None]


@pytest.mark.parametrize(("errors", "expected"), [((0.10, 0.12), "held"), ((0.11, 0.1101), "not held")])
def test_calibrated_weights_may_be_behind_by_the_spread(
    make_result: MakeResult, errors: tuple[float, float], expected: Verdict
) -> None:
    grid = dict.fromkeys(HAND_PICKED, scores(roi_mae=0.1))
    seeds = [make_result(seed, method=scores(roi_mae=error), **grid) for seed, error in enumerate(errors)]

    text = "Calibrated weights are no worse than the best hand-picked ones"
    assert judge(claim(text), {"c": seeds}).verdict == expected


def test_provenance_needs_both_directions(make_result: MakeResult) -> None:
    before = {"max_softmax": 0.556, "entropy": 0.684}
    both = make_result(shift={"phase1": before, "phase2": {"max_softmax": 0.541, "entropy": 0.688}})
    one = make_result(shift={"phase1": before, "phase2": {"max_softmax": 0.541, "entropy": 0.680}})

    assert judge(claim("Provenance is less clear after phase 2"), {"c": [both]}).verdict == "held"
    assert judge(claim("Provenance is less clear after phase 2"), {"c": [one]}).verdict == "held in part"


def test_the_papers_own_figures_hold(make_result: MakeResult) -> None:
    """What the paper reports, put into its claims."""
    phase1 = scores(psnr=20.0, roi_mae=0.1, roi_edge_mae=0.1)
    validation = scores(psnr=20.27001, roi_mae=0.1 * (1 - 0.08871), roi_edge_mae=0.1 * (1 - 0.11101))
    held_out = scores(psnr=20.29001, roi_mae=0.1 * (1 - 0.06431), roi_edge_mae=0.1 * (1 - 0.04901))
    shift = {
        "phase1": {"max_softmax": 0.556, "entropy": 0.684},
        "phase2": {"max_softmax": 0.541, "entropy": 0.688, "auroc": 0.9956},
    }
    result = make_result(shift=shift, phase1=phase1, method={"a": validation, "b": validation, "c": held_out})

    assert {judge(c, {"c": [result]}).verdict for c in CLAIMS if c.source == "paper"} == {"held"}
