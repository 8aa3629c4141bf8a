import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from roiae.data.augment import MAX_GAIN, MAX_SHIFT, augment

WIDTH, HEIGHT = 60, 50
MARK = 0.5  # a gain of ±10 % leaves it between 0 and 1


@st.composite
def boxes(draw: st.DrawFn) -> list[int]:
    x0, y0 = draw(st.integers(0, WIDTH - 1)), draw(st.integers(0, HEIGHT - 1))
    return [x0, y0, draw(st.integers(x0 + 1, WIDTH)), draw(st.integers(y0 + 1, HEIGHT))]


def marked(rois: Tensor) -> Tensor:
    """Black frames with the ROI's pixels set to MARK."""
    frames = torch.zeros(len(rois), 1, HEIGHT, WIDTH)
    for frame, (x0, y0, x1, y1) in zip(frames, rois.tolist(), strict=True):
        frame[0, y0:y1, x0:x1] = MARK
    return frames


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None)
@given(st.lists(boxes(), min_size=1, max_size=8), st.integers(0, 2**32))
def test_the_roi_encloses_exactly_what_remains_of_its_pixels(corners: list[list[int]], seed: int) -> None:
    rois = torch.tensor(corners)
    moved, moved_rois = augment(marked(rois), rois, seeded(seed))
    assert moved_rois.dtype == torch.int64
    assert torch.equal(moved > 0, marked(moved_rois) > 0)


@settings(deadline=None)
@given(st.lists(boxes(), min_size=1, max_size=8), st.integers(0, 2**32))
def test_half_of_the_roi_stays_in_the_frame(corners: list[list[int]], seed: int) -> None:
    rois = torch.tensor(corners)
    _, moved = augment(marked(rois), rois, seeded(seed))
    sizes, moved_sizes = rois[:, 2:] - rois[:, :2], moved[:, 2:] - moved[:, :2]
    assert (2 * moved_sizes >= sizes).all()
    assert (moved_sizes <= sizes).all()


def test_what_leaves_at_one_border_does_not_return_at_the_other() -> None:
    frames = torch.full((64, 1, HEIGHT, WIDTH), MARK)
    rois = torch.tensor([[20, 20, 40, 30]]).expand(64, 4)
    moved, moved_rois = augment(frames, rois, seeded(0))
    dy = moved_rois[:, 1] - 20
    assert dy.min() < 0 < dy.max()
    for frame, rows in zip(moved[:, 0], dy.tolist(), strict=True):
        assert (frame == 0).all(dim=1).sum() == abs(rows)


def test_flips_shifts_and_gains_cover_their_ranges() -> None:
    rois = torch.tensor([[10, 20, 20, 30]]).expand(2000, 4)
    moved, moved_rois = augment(marked(rois), rois, seeded(0))
    flipped = moved_rois[:, 0] > WIDTH // 2
    assert flipped.float().mean() == pytest.approx(0.5, abs=0.05)
    most = int(MAX_SHIFT * HEIGHT)
    assert set((moved_rois[:, 1] - 20).tolist()) == set(range(-most, most + 1))
    gains = moved.amax(dim=(1, 2, 3)) / MARK
    assert gains.min() == pytest.approx(1 - MAX_GAIN, abs=0.01)
    assert gains.max() == pytest.approx(1 + MAX_GAIN, abs=0.01)


def test_intensity_stays_in_range_and_the_input_stays_untouched() -> None:
    frames = torch.rand(16, 1, HEIGHT, WIDTH, generator=seeded(1))
    before = frames.clone()
    moved, _ = augment(frames, torch.tensor([[1, 2, 30, 40]]).expand(16, 4), seeded(0))
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert torch.equal(frames, before)


def test_equal_generators_give_equal_batches_and_others_do_not() -> None:
    frames = torch.rand(8, 1, HEIGHT, WIDTH, generator=seeded(1))
    rois = torch.tensor([[10, 20, 30, 40]]).expand(8, 4)
    first, again, other = (augment(frames, rois, seeded(seed)) for seed in (7, 7, 8))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
