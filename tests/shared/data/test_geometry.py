import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from roiae.data.geometry import resize_boxes

SIDE = 16


@st.composite
def frames_with_a_box(draw: st.DrawFn) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    width, height = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return (x0, y0, draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))), (width, height)


def resized(box: tuple[int, int, int, int], size: tuple[int, int], side: int = SIDE) -> list[int]:
    boxes: NDArray[np.int64] = resize_boxes(np.array([box]), np.array([size]), side)
    assert boxes.dtype == np.int64
    return [int(edge) for edge in boxes[0]]


def test_each_axis_follows_its_own_factor() -> None:
    assert resized((79, 257, 297, 279), (480, 342), side=256) == [42, 192, 159, 209]


def test_a_box_over_the_whole_frame_stays_over_the_whole_frame() -> None:
    assert resized((0, 0, 480, 342), (480, 342)) == [0, 0, SIDE, SIDE]


@settings(deadline=None)
@given(frames_with_a_box())
def test_a_box_stays_inside_and_holds_a_pixel(case: tuple[tuple[int, int, int, int], tuple[int, int]]) -> None:
    x0, y0, x1, y1 = resized(*case)
    assert 0 <= x0 < x1 <= SIDE
    assert 0 <= y0 < y1 <= SIDE


@settings(deadline=None)
@given(frames_with_a_box())
def test_a_box_covers_every_pixel_it_covered(case: tuple[tuple[int, int, int, int], tuple[int, int]]) -> None:
    (x0, y0, x1, y1), (width, height) = case
    marked = np.zeros((height, width), dtype=np.uint8)
    marked[y0:y1, x0:x1] = 1
    left, top, right, bottom = resized(*case)

    # Divide each pixel so finely that every pixel of the square is made of whole parts.
    parts = marked.repeat(SIDE, axis=0).repeat(SIDE, axis=1)
    seen = parts.reshape(SIDE, height, SIDE, width).max(axis=(1, 3))
    seen[top:bottom, left:right] = 0
    assert not seen.any()
