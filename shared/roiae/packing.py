"""All arrays of a message as one: Flower moves each array in several calls of its own, and a model has forty."""

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from roiae.contract import Arrays


def pack(arrays: Arrays) -> tuple[str, tuple[int], str, bytes]:
    """Arrays by name as the four fields of Flower's Array: type, shape, format and content.

    A number before each name keeps their order.
    """
    numbered = {f"{n:05d}/{name}": np.asarray(array, order="C") for n, (name, array) in enumerate(arrays.items())}
    content = save(numbered)
    return "uint8", (len(content),), "safetensors", content


def unpack(content: bytes) -> Arrays:
    """The arrays in their order; nothing in them can run.

    Raises:
        ValueError: it is not what `pack` makes.
    """
    try:
        numbered = load(content)
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"arrays are not packed in safetensors' format: {error}") from error
    return {name.partition("/")[2]: array for name, array in sorted(numbered.items())}
