from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from roiae.data.frames import read_frame
from roiae.data.manifest import ManifestRow, read_manifest
from roiae.data.pixels import Box
from roiae_client.checks.boxes import small, unlike_the_others
from tests.conftest import REAL_FRAMES

SIZES = np.tile([480, 400], (40, 1))


def rows_of(boxes: list[Box]) -> list[ManifestRow]:
    return [ManifestRow(Path("f.png"), at + 2, f"S{at}", box, None, None) for at, box in enumerate(boxes)]


def usual(number: int = 40) -> list[Box]:
    """Wide flat boxes in the lower half, as NT boxes are."""
    rng = np.random.default_rng(0)
    corners = rng.integers((60, 220), (200, 300), (number, 2))
    sizes = rng.integers((100, 15), (200, 35), (number, 2))
    return [(int(x), int(y), int(x + w), int(y + h)) for (x, y), (w, h) in zip(corners, sizes, strict=True)]


def codes(boxes: list[Box], sizes: NDArray[np.int64] = SIZES) -> dict[str, tuple[int, ...]]:
    found = unlike_the_others(rows_of(boxes), np.zeros_like(sizes), sizes)
    return {finding.code: finding.lines for finding in found if finding.count}


def test_usual_boxes_are_fine() -> None:
    assert codes(usual()) == {}


def test_a_box_with_exchanged_axes_that_still_fits_is_known_by_the_others() -> None:
    boxes = usual()
    x0, y0, x1, y1 = boxes[7]
    boxes[7] = (y0, x0, y1, x1)
    assert codes(boxes) == {"roi-swapped": (9,)}


def test_a_box_of_another_kind_is_unlikely() -> None:
    boxes = usual()
    boxes[3] = (0, 0, 480, 400)
    assert codes(boxes) == {"roi-unlikely": (5,)}


@pytest.mark.parametrize("factor", [0.25, 2.0])
def test_a_box_that_was_drawn_on_a_picture_of_another_size_is_known_by_the_others(factor: float) -> None:
    boxes = usual()
    boxes[7] = tuple(int(side * factor) for side in boxes[7])  # type: ignore[assignment]
    assert codes(boxes) == {"roi-scaled": (9,)}


def test_few_boxes_say_nothing_of_what_is_usual() -> None:
    boxes = [*usual(10), (0, 0, 480, 400)]
    assert codes(boxes, SIZES[:11]) == {}


def test_equal_boxes_have_a_spread_to_be_measured_by() -> None:
    assert codes([(100, 250, 300, 280)] * 40) == {}


def test_a_box_of_four_rows_is_small() -> None:
    rois = np.array([[0, 0, 50, 5], [0, 0, 50, 4]])
    assert small(rows_of(usual(2)), rois).lines == (3,)


@pytest.mark.real_frames
@pytest.mark.skipif(not REAL_FRAMES.is_dir(), reason="no real NT frames at ../shared/data/nt beside the checkout")
@pytest.mark.parametrize("site", ["ge_a", "ge_b", "philips"])
def test_nearly_every_real_box_with_exchanged_axes_is_found(site: str) -> None:
    rows = read_manifest(REAL_FRAMES / site)
    sizes = np.array([read_frame(row.image).pixels.shape[::-1] for row in rows])
    boxes = [row.box for row in rows]
    assert codes(boxes, sizes) == {}
    found = outside = 0
    for at, (x0, y0, x1, y1) in enumerate(boxes):
        width, height = sizes[at]
        if y1 > width or x1 > height:
            outside += 1  # which reading refuses
            continue
        changed = [*boxes[:at], (y0, x0, y1, x1), *boxes[at + 1 :]]
        found += codes(changed, sizes).get("roi-swapped") == (at + 2,)
    assert found >= 0.95 * (len(boxes) - outside)
