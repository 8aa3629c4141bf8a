"""What a later model gained or lost."""

import numpy as np
import pytest

from roiae_server.report.changes import better_in_roi, change, pooled
from tests.server.report.conftest import ROLES, scored


def test_pooled_sources_are_the_mean_over_all_their_frames_and_none_of_the_held_out() -> None:
    per_frame = {"alpha": [20.0, 22.0, 24.0], "beta": [10.0], "gamma": [99.0]}
    scores = {site: scored((float(np.mean(of)), 0.5, 0.1, 0.2), len(of)) for site, of in per_frame.items()}

    found = pooled(scores, ROLES)

    assert found["psnr"] == pytest.approx(np.mean([*per_frame["alpha"], *per_frame["beta"]]))
    assert found["frames"] == 4


def test_pooled_nt_readings_weigh_by_the_frames_that_have_one() -> None:
    alpha = {"nt_frames": 3, "nt_px": 0.4, "nt_mm_frames": 1, "nt_mm": 0.1, "nt_one_sided": 2}
    beta = {"nt_frames": 1, "nt_px": 0.8, "nt_mm_frames": 0, "nt_one_sided": 0}
    quality = scored((20.0, 0.5, 0.1, 0.2), 10)

    found = pooled({"alpha": quality | alpha, "beta": quality | beta, "gamma": quality | alpha}, ROLES)

    assert {name: found[name] for name in alpha} == pytest.approx(
        {"nt_frames": 4, "nt_px": 0.5, "nt_mm_frames": 1, "nt_mm": 0.1, "nt_one_sided": 2}
    )


def test_no_source_scored_is_nothing_pooled() -> None:
    assert pooled({"gamma": scored((20.0, 0.5, 0.1, 0.2), 3)}, ROLES) == {}


def test_psnr_changes_by_decibels_and_roi_errors_by_shares() -> None:
    changed = change(scored((20.0, 0.50, 0.20, 0.40), 1), scored((20.5, 0.48, 0.19, 0.44), 1))

    assert changed == pytest.approx({"psnr": 0.5, "ms_ssim": -0.02, "roi_mae": -0.05, "roi_edge_mae": 0.1})


def test_nothing_is_a_share_of_no_error() -> None:
    assert change(scored((20.0, 0.5, 0.0, 0.4), 1), scored((20.0, 0.5, 0.1, 0.4), 1))["roi_mae"] is None


@pytest.mark.parametrize(
    ("intensity", "edge", "better"), [(-0.1, -0.1, True), (-0.1, 0.0, False), (0.1, -0.1, False), (None, -0.1, False)]
)
def test_better_in_the_roi_is_better_in_both_errors(intensity: float | None, edge: float, better: bool) -> None:
    assert better_in_roi({"roi_mae": intensity, "roi_edge_mae": edge}) is better
