"""What readers of several formats have in common: numbers and shapes out of JSON and XML, or one message."""

import math
from pathlib import Path
from typing import Any, TypeVar
from xml.etree.ElementTree import Element

from pydantic import BaseModel, ValidationError

from roiae.errors import DataError
from roiae_client.intake.records import Corners

Format = TypeVar("Format", bound=BaseModel)


def as_model(model: type[Format], path: Path, content: Any) -> Format:
    """The content as a model of its format.

    Raises:
        DataError: it is not of that shape; the first place is named.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(f"{path}: {place}: {first['msg']}; {error.error_count()} such places.") from error


def bounds(points: list[tuple[float, float]]) -> Corners:
    """x0, y0, x1, y1 round at least one point."""
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def number_of(where: str, name: str, text: str | None) -> float:
    """A finite number in an attribute or element.

    Raises:
        DataError: it is none.
    """
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{where}: {name} is {text!r}; expected a number of pixels.")
    return number


def size_of(
    where: str, element: Element | None, names: tuple[str, str] = ("width", "height")
) -> tuple[int, int] | None:
    """Width and height that the element's children state; None where there are none.

    Raises:
        DataError: one of them is missing or no whole number.
    """
    texts = [None if element is None else element.findtext(name) for name in names]
    if texts == [None, None]:
        return None
    width, height = (number_of(where, name, text) for name, text in zip(names, texts, strict=True))
    if width != int(width) or height != int(height):
        raise DataError(f"{where}: the picture is {width:g}×{height:g} px; expected whole numbers.")
    return int(width), int(height)
