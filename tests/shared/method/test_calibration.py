import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from roiae.data.site_data import FrameSet
from roiae.errors import CalibrationError
from roiae.method.calibration import calibrate, gradient_norms
from roiae.method.losses import TERMS, Comparison
from roiae.method.training import ordered_batches


class Shade(nn.Module):
    """recon = gain · frame + offset: a model with two parameters, small enough for finite differences."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.8, dtype=torch.float64))
        self.offset = nn.Parameter(torch.tensor(0.05, dtype=torch.float64))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.gain * frames + self.offset


def shaded(data: FrameSet, model: Shade) -> Comparison:
    ((frames, rois),) = ordered_batches(data, len(data))
    return Comparison(model(frames.double()), frames.double(), rois)


@pytest.mark.parametrize("term", list(TERMS))
def test_norms_equal_finite_differences_of_the_loss(term: str, frame_set: Callable[[int, int], FrameSet]) -> None:
    data, model, step = frame_set(4, 3), Shade(), 1e-6

    (measured,) = gradient_norms([TERMS[term](shaded(data, model))], list(model.parameters())).tolist()

    slopes = []
    for parameter in model.parameters():
        losses = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(sign * step)
                losses.append(float(TERMS[term](shaded(data, model))))
                parameter.sub_(sign * step)
        slopes.append((losses[0] - losses[1]) / (2 * step))
    assert measured == pytest.approx(math.hypot(*slopes), rel=1e-5)


def test_norms_leave_the_models_own_gradients_alone(frame_set: Callable[[int, int], FrameSet]) -> None:
    model = Shade()
    of = shaded(frame_set(4, 0), model)

    gradient_norms([term(of) for term in TERMS.values()], list(model.parameters()))

    assert all(parameter.grad is None for parameter in model.parameters())


def test_weights_are_ratios_of_frame_weighted_geometric_means() -> None:
    magnitudes = {"a": {"ms_ssim": 1.0, "roi_l1": 2.0}, "b": {"ms_ssim": 4.0, "roi_l1": 2.0}}

    result = calibrate(magnitudes, {"a": 300, "b": 100}, max_ratio=10)

    assert result.global_magnitudes["ms_ssim"] == pytest.approx(4 ** (100 / 400))
    assert result.weights == pytest.approx({"ms_ssim": 1.0, "roi_l1": 4**0.25 / 2})
    assert result.spread == {"ms_ssim": 4.0, "roi_l1": 1.0}


def test_one_sites_ratio_to_the_others_median_is_bounded() -> None:
    magnitudes = {name: {"ms_ssim": 1.0} for name in "abc"} | {"d": {"ms_ssim": 1e6}}

    result = calibrate(magnitudes, dict.fromkeys("abcd", 10), max_ratio=10)

    assert result.global_magnitudes["ms_ssim"] == pytest.approx(10**0.25)


@given(st.floats(1e-6, 1e6), st.integers(1, 1000))
def test_one_unit_of_loss_at_every_site_changes_no_weight(scale: float, frames: int) -> None:
    magnitudes = {"a": {"ms_ssim": 0.3, "roi_l1": 0.5}, "b": {"ms_ssim": 0.2, "roi_l1": 0.9}}
    scaled = {site: {term: g * scale for term, g in terms.items()} for site, terms in magnitudes.items()}

    assert calibrate(scaled, {"a": frames, "b": 7}, 10).weights == pytest.approx(
        calibrate(magnitudes, {"a": frames, "b": 7}, 10).weights
    )


@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf, -1.0])
def test_an_unusable_magnitude_names_site_and_term(bad: float) -> None:
    magnitudes = {"a": {"ms_ssim": 1.0, "roi_l1": 1.0}, "b": {"ms_ssim": 1.0, "roi_l1": bad}}

    with pytest.raises(CalibrationError, match=r"b reports .* roi_l1"):
        calibrate(magnitudes, {"a": 1, "b": 1}, 10)


@pytest.mark.parametrize("extreme", [1e-4, 1e4])
def test_a_weight_out_of_range_stops_with_the_reason(extreme: float) -> None:
    magnitudes = {site: {"ms_ssim": 1.0, "roi_edge": extreme} for site in "ab"}

    with pytest.raises(CalibrationError, match="weight of roi_edge"):
        calibrate(magnitudes, {"a": 1, "b": 1}, 10)
