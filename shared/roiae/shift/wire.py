"""Sums, models and readings as named arrays, which is all that a request or a reply carries."""

from dataclasses import fields
from typing import Any, TypeVar

import numpy as np

from roiae.errors import Reason, RefusalError
from roiae.shift.outcome import Labels
from roiae.wire.contract import Arrays

Record = TypeVar("Record")


def to_arrays(name: str, record: Any, *, without: tuple[str, ...] = ()) -> Arrays:
    """A dataclass's numbers and arrays as `name.field`; `without` names fields that go another way."""
    names = [field.name for field in fields(record) if field.name not in without]
    return {f"{name}.{part}": np.asarray(getattr(record, part)) for part in names}


def from_arrays(kind: type[Record], name: str, arrays: Arrays, **given: Any) -> Record:
    """The dataclass that `to_arrays` took apart; `given` are the fields that went another way.

    Raises:
        RefusalError: `arrays-mismatch` where a field is missing or of another type. Shapes are the caller's to check.
    """
    kinds = {field.name: field.type for field in fields(kind) if field.name not in given}  # type: ignore[arg-type]
    return kind(**given, **{part: _value(of, f"{name}.{part}", arrays) for part, of in kinds.items()})


def has(name: str, arrays: Arrays) -> bool:
    """Whether any field of that record is there."""
    return any(key.startswith(f"{name}.") for key in arrays)


def _value(kind: Any, name: str, arrays: Arrays) -> Any:
    array = arrays.get(name)
    dtype = np.int64 if kind in (int, Labels) else np.float64
    scalar = kind in (int, float)
    if array is None or array.dtype != dtype or (array.ndim == 0) != scalar:
        raise RefusalError(Reason.ARRAYS_MISMATCH, f"{name} is missing or of another type")
    return kind(array) if scalar else array
