"""What the numbers of boxes count, decided for a whole set of boxes and said: never box by box."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from roiae.errors import DataError, FrameError
from roiae_client.intake.records import BoxRecord, Corners, Unit

LARGEST_SIDE = 8192  # px; no scanner's picture is wider
_SAME_SHAPE = 0.005  # of width over height: what a picture scaled to whole pixels may lose
_GROUPED = re.compile(r"[1-9]\d{0,2}(?:[.,]\d{3})+")
_PLAIN = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_MANY = 5  # boxes that all lie in the first 100 pixels by chance: none
_SNAP = 0.1  # px; numbers of four digits miss a whole pixel by less


def settle_origin(records: Sequence[BoxRecord], stated: int | None) -> tuple[list[BoxRecord], list[str]]:
    """Boxes counted from 1 with their last pixel inside, as Pascal VOC has it, become end exclusive from 0.

    Many tools write that format counted from 0. A box that starts at 0 shows it, and then for every box of the set.
    """
    counted = [record for record in records if record.from_one and not record.refusal]
    if not counted:
        return list(records), []
    shown = any(min(record.box[:2]) < 1 for record in counted)
    if stated == 1 and shown:
        raise DataError(f"{next(r.where for r in counted if min(r.box[:2]) < 1)}: starts before 1; give --origin 0.")
    first = stated if stated is not None else 0 if shown else 1
    why = "as --origin says" if stated is not None else "one starts at 0" if shown else "none starts at 0"
    moved = []
    for record in records:
        if record.from_one:
            x0, y0, x1, y1 = record.box
            record = replace(record, box=(x0 - first, y0 - first, x1, y1), from_one=False)
        moved.append(record)
    return moved, [f"Pascal VOC boxes were read as counted from {first}: {why}."]


def settle_unit(records: Sequence[BoxRecord], stated: Unit | None) -> tuple[list[BoxRecord], list[str]]:
    """The unit of the boxes whose format does not say it: shares of the picture where all lie within 0 to 1.

    A box within 0 to 1 among others that are not is refused: it was written in another unit than they.
    """
    unsaid = [record for record in records if record.unit is None and not record.refusal]
    shares = bool(unsaid) and all(_within(record.box, 1) for record in unsaid)
    unit = stated or (Unit.SHARES if shares else Unit.PIXELS)
    notes = []
    if shares and stated is None:
        notes.append("All corners lie within 0 to 1: they were read as shares of the picture's width and height.")
    settled = []
    for record in records:
        if record.unit is None and not record.refusal:
            record = replace(record, unit=unit)
            if unit is Unit.PIXELS and _within(record.box, 1):
                record = replace(
                    record,
                    refusal=f"its corners {_written(record.box)} lie within 0 to 1, those of other boxes do not: "
                    "they are in different units. Write all in pixels of the stored picture.",
                )
        settled.append(record)
    return settled, notes


def check_not_percent(boxes: Iterable[tuple[BoxRecord, tuple[int, int]]], stated: Unit | None) -> None:
    """Refuse a set that was read as pixels and looks like percent.

    Args:
        boxes: each record, and its picture's width and height.
        stated: what the user says of the unit.

    Raises:
        DataError: all corners lie within 0 to 100 of larger pictures, and they have fractions or are many.
    """
    pixels = [(record.box, size) for record, size in boxes if record.unit is Unit.PIXELS]
    if stated is not None or not pixels or not all(_within(box, 100) and min(size) > 100 for box, size in pixels):
        return
    if len(pixels) < _MANY and all(side == int(side) for box, _ in pixels for side in box):
        return
    raise DataError(
        "All corners lie within 0 to 100 while the pictures are larger: they may be percent or pixels. "
        "Say which with --unit percent or --unit px."
    )


def in_pixels(record: BoxRecord, size: tuple[int, int], *, rescale: bool) -> Corners:
    """A record's corners in pixels of its picture.

    Args:
        size: the picture's width and height, px.
        rescale: whether a box drawn on a picture of another size and the same shape is scaled to this one.

    Raises:
        FrameError: the record states a picture of another size.
    """
    width, height = size
    box, stated = record.box, record.picture
    if stated is not None and stated != size and not (rescale and same_shape(stated, size)):
        raise FrameError(_other_size(stated, size))
    if record.unit in (Unit.SHARES, Unit.PERCENT):
        whole = 1 if record.unit is Unit.SHARES else 100
        return _scaled(box, width / whole, height / whole)
    return box if stated is None or stated == size else _scaled(box, width / stated[0], height / stated[1])


def same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes are one picture scaled."""
    if min(*one, *other) < 1:
        return False
    return abs(math.log(one[0] * other[1] / (one[1] * other[0]))) < _SAME_SHAPE


def read_numbers(
    where: Sequence[str], rows: Sequence[Sequence[str]], *, sized: bool = False
) -> tuple[list[Corners], list[str]]:
    """Boxes of a table, with a decimal point or comma and with thousands set apart, alike for the whole table.

    Args:
        where: the place of each row, for messages.
        rows: x0, y0, x1, y1 of each row as text; x, y, width, height where `sized`.

    Returns:
        x0, y0, x1, y1 of each row, and what was decided.

    Raises:
        DataError: a field is no number, or what a comma or point means cannot be told.
    """
    marks, sure = _marks([cell for row in rows for cell in row])

    def read(decimal: str, grouping: str) -> list[Corners]:
        found = []
        for place, row in zip(where, rows, strict=True):
            x0, y0, *far = (_number(place, cell, decimal, grouping) for cell in row)
            found.append((x0, y0, x0 + far[0], y0 + far[1]) if sized else (x0, y0, far[0], far[1]))
        return found

    if sure or not marks:
        decimal, grouping = marks or (".", "")
        note = [f"The {grouping!r} in numbers was read as setting thousands apart."] if grouping else []
        return read(decimal, grouping), note
    (mark,) = marks
    with_mark = [at for at, row in enumerate(rows) if any(mark in cell for cell in row)]
    fractions, whole = read(mark, ""), read("", mark)
    as_fraction, as_whole = (sum(_is_believable(reading[at]) for at in with_mark) for reading in (fractions, whole))
    if as_whole > as_fraction:
        return whole, [f"The {mark!r} in numbers was read as setting thousands apart."]
    if mark == "," and as_whole == as_fraction:
        raise DataError(
            f"{where[with_mark[0]]}: the comma in a corner may set thousands apart or be a decimal comma. "
            "Write whole numbers of pixels without a comma."
        )
    return fractions, []


def _marks(cells: Sequence[str]) -> tuple[tuple[str, ...], bool]:
    """The decimal mark and the one that sets thousands apart; or the one mark that there is, of which it is not sure.

    Nothing where there is no mark.
    """
    written = {mark: [cell for cell in cells if mark in cell] for mark in ",."}
    both = {max(",.", key=cell.rfind) for cell in written[","] if "." in cell}
    grouped = {mark: all(_GROUPED.fullmatch(cell) for cell in written[mark]) for mark in ",."}
    if written[","] and written["."]:
        decimal = both or {mark for mark in ",." if not grouped[mark]}
        if len(decimal) != 1:
            raise DataError("Some corners have a comma and others a point, and which is decimal cannot be told.")
        mark = decimal.pop()
        return (mark, {",": ".", ".": ","}[mark]), True
    for mark in ",.":
        if written[mark]:
            return ((mark,), False) if grouped[mark] else ((mark, ""), True)
    return (), True


def _number(where: str, cell: str, decimal: str, grouping: str) -> float:
    text = cell.replace(grouping, "") if grouping else cell
    text = text.replace(decimal, ".") if decimal else text
    number = float(text) if _PLAIN.fullmatch(text) else math.nan
    if not math.isfinite(number):
        raise DataError(f"{where}: a corner is {cell!r}; expected a number of pixels.")
    return number


def _is_believable(box: Corners) -> bool:
    """Whether it holds a pixel each way and fits a picture."""
    x0, y0, x1, y1 = box
    return x1 - x0 >= 1 and y1 - y0 >= 1 and max(box) <= LARGEST_SIDE


def _within(box: Corners, end: float) -> bool:
    return min(box) >= 0 and 0 < max(box) <= end


def _scaled(box: Corners, by_x: float, by_y: float) -> Corners:
    x0, y0, x1, y1 = (side * by for side, by in zip(box, (by_x, by_y, by_x, by_y), strict=True))
    return _snapped(x0), _snapped(y0), _snapped(x1), _snapped(y1)


def _snapped(side: float) -> float:
    return float(round(side)) if abs(side - round(side)) <= _SNAP else side


def _written(box: Corners) -> str:
    return "(" + ", ".join(f"{side:g}" for side in box) + ")"


def _other_size(stated: tuple[int, int], size: tuple[int, int]) -> str:
    text = f"its boxes were drawn on a picture of {stated[0]}×{stated[1]} px, and this one has {size[0]}×{size[1]} px. "
    if same_shape(stated, size):
        return text + "Bring the picture that was drawn on, or scale the boxes to this one with --rescale."
    if stated == size[::-1] or same_shape(stated, size[::-1]):
        return text + "One of the two was turned: bring the picture that was drawn on."
    return text + "Bring the picture that was drawn on."
