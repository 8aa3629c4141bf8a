from dataclasses import replace

import pytest

from roiae.errors import DataError, FrameError
from roiae_client.intake.numbers import check_not_percent, in_pixels, read_numbers, settle_origin, settle_unit
from roiae_client.intake.records import BoxRecord, Corners, Unit

SIZE = (320, 240)


def record(*box: float, **more: object) -> BoxRecord:
    x0, y0, x1, y1 = box
    return replace(BoxRecord("boxes:2", "a.png", "NT", (x0, y0, x1, y1)), **more)  # type: ignore[arg-type]


def read(*rows: str) -> Corners:
    """The first of the rows, whose fields are set apart by blanks."""
    return read_numbers([f"t.csv:{n}" for n in range(len(rows))], [row.split() for row in rows])[0][0]


@pytest.mark.parametrize(
    ("rows", "box"),
    [
        (["1,024 40 1,100 60"], (1024, 40, 1100, 60)),
        (["1.024 40 1.100 60"], (1024, 40, 1100, 60)),
        (["1,024 40 3,000 60", "1,024 40 1,100 60"], (1024, 40, 3000, 60)),
        (["1,024.5 40 1,100.25 60"], (1024.5, 40, 1100.25, 60)),
        (["1.024,5 40 1.100,25 60"], (1024.5, 40, 1100.25, 60)),
        (["1,024 40.5 1,100 60"], (1024, 40.5, 1100, 60)),
        (["5,0 6,0 20,0 12,5"], (5, 6, 20, 12.5)),
        (["5,125 6 20,250 12"], (5.125, 6, 20.25, 12)),
        (["100,125 40,250 160,375 60,500"], (100.125, 40.25, 160.375, 60.5)),
        (["5.125 6 9.250 12"], (5.125, 6, 9.25, 12)),
        (["0,125 0,250 0,375 0,500"], (0.125, 0.25, 0.375, 0.5)),
        (["1e2 40 1.6e2 60"], (100, 40, 160, 60)),
    ],
)
def test_commas_and_points_are_told_apart_for_the_whole_table(rows: list[str], box: Corners) -> None:
    assert read(*rows) == box


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["5,125 6 7,250 12"], "may set thousands apart or be a decimal comma"),
        (["5,5 6.5 20,5 12.5"], "which is decimal cannot be told"),
        (["1_024 40 1_100 60"], "a corner is '1_024'"),
        (["1'024 40 1'100 60"], "a corner is"),
        (["１２ 40 60 60"], "a corner is"),
        (["1,02,4 40 1,100 60"], "a corner is"),
        (["inf 40 60 60"], "a corner is 'inf'"),
    ],
)
def test_numbers_that_could_be_two_are_refused(rows: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(*rows)


def test_corners_within_0_and_1_are_shares_of_the_picture_for_the_whole_set() -> None:
    shares = [record(0.3125, 0.1667, 0.5, 0.25), record(0, 0, 1, 1)]
    settled, notes = settle_unit(shares, None)
    assert [in_pixels(one, SIZE, rescale=False) for one in settled] == [(100, 40, 160, 60), (0, 0, 320, 240)]
    assert "shares of the picture" in notes[0]


def test_a_box_within_0_and_1_among_pixels_is_refused() -> None:
    settled, notes = settle_unit([record(0.3, 0.1, 0.5, 0.2), record(100, 40, 160, 60)], None)
    assert "different units" in settled[0].refusal
    assert (settled[1].refusal, notes) == ("", [])


@pytest.mark.parametrize(
    ("boxes", "size", "refused"),
    [
        ([record(31.25, 16.67, 50, 25)], SIZE, True),
        ([record(31.25, 16.67, 50, 25), record(100.5, 40, 160, 60)], SIZE, False),
        ([record(31, 16, 50, 25)] * 20, SIZE, True),
        ([record(31, 16, 50, 25)] * 3, SIZE, False),
        ([record(31.25, 16.67, 50, 25)], (90, 80), False),
    ],
)
def test_pixels_that_may_be_percent_are_refused(boxes: list[BoxRecord], size: tuple[int, int], refused: bool) -> None:
    settled = [(one, size) for one in settle_unit(boxes, None)[0]]
    if refused:
        with pytest.raises(DataError, match="--unit percent or --unit px"):
            check_not_percent(settled, None)
    else:
        check_not_percent(settled, None)
    check_not_percent(settled, Unit.PIXELS)


def test_the_origin_is_one_for_the_whole_set() -> None:
    counted = [record(0, 40, 160, 60, from_one=True), record(100, 40, 160, 60, from_one=True)]
    settled, notes = settle_origin(counted, None)
    assert [one.box for one in settled] == [(0, 40, 160, 60), (100, 40, 160, 60)]
    assert "counted from 0: one starts at 0" in notes[0]
    settled, notes = settle_origin(counted[1:], None)
    assert settled[0].box == (99, 39, 160, 60)
    assert "counted from 1: none starts at 0" in notes[0]
    assert settle_origin(counted[1:], 0)[0][0].box == (100, 40, 160, 60)
    with pytest.raises(DataError, match="starts before 1; give --origin 0"):
        settle_origin(counted, 1)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ((160, 120), "or scale the boxes to this one with --rescale"),
        ((240, 320), "One of the two was turned"),
        ((320, 200), "Bring the picture that was drawn on"),
        ((0, 0), "Bring the picture that was drawn on"),
        ((640, 481), "or scale the boxes"),
    ],
)
def test_a_picture_of_another_size_than_stated_is_refused(stated: tuple[int, int], message: str) -> None:
    with pytest.raises(FrameError, match=message):
        in_pixels(record(10, 10, 20, 20, picture=stated), SIZE, rescale=False)


def test_boxes_of_another_shape_are_not_even_scaled_when_asked() -> None:
    assert in_pixels(record(10, 10, 20, 20, picture=(160, 120)), SIZE, rescale=True) == (20, 20, 40, 40)
    with pytest.raises(FrameError):
        in_pixels(record(10, 10, 20, 20, picture=(160, 100)), SIZE, rescale=True)
