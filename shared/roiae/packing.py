"""All arrays of a message as one: Flower moves each array in several calls of its own, and a model has forty."""

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from roiae.contract import Arrays
from roiae.text import shown

MOST_HEADER = 1_048_576  # bytes of names, types and shapes: those of 10,000 arrays


def pack(arrays: Arrays) -> tuple[str, tuple[int], str, bytes]:
    """Arrays by name as the four fields of Flower's Array: type, shape, format and content.

    A number before each name keeps their order.
    """
    numbered = {f"{n:05d}/{name}": np.asarray(array, order="C") for n, (name, array) in enumerate(arrays.items())}
    content = save(numbered)
    return "uint8", (len(content),), "safetensors", content


def unpack(content: bytes) -> Arrays:
    """The arrays in their order; nothing in them can run, and they take no more memory than came.

    Raises:
        ValueError: it is not what `pack` makes.
    """
    if int.from_bytes(content[:8], "little") > min(MOST_HEADER, len(content)):
        raise ValueError("arrays are not packed: their header is longer than one can be")
    try:
        numbered = load(content)
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"arrays are not packed in safetensors' format: {shown(error)}") from error
    names = [name.partition("/") for name in sorted(numbered)]
    arrays = {name: numbered[f"{number}/{name}"] for number, slash, name in names if slash}
    if len(arrays) < len(names) or [number for number, *_ in names] != [f"{n:05d}" for n in range(len(names))]:
        raise ValueError("arrays are not packed: expected each name once, with its number before it")
    return arrays
