"""All arrays of a message as one: Flower moves each array in several calls of its own, and a model has fifty."""

import hashlib

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from safetensors import SafetensorError
from safetensors.numpy import load, save

from roiae.text import shown
from roiae.wire.contract import Arrays

MAX_HEADER = 1_048_576  # bytes of names, types and shapes: those of 10,000 arrays

UNLIKE = "unlike"  # beside a reply's numbers in their record: a random one, which makes the record unlike any other


def pack(arrays: Arrays, nonce: str = "") -> tuple[str, tuple[int], str, bytes]:
    """Arrays by name as the four fields of Flower's Array: type, shape, format and content.

    Args:
        nonce: as `veil` takes it.
    """
    return fields(veil(joined(arrays), nonce))


def joined(arrays: Arrays) -> bytes:
    """Arrays by name as one content; a number before each name keeps their order."""
    return save({f"{n:05d}/{name}": np.asarray(array, order="C") for n, (name, array) in enumerate(arrays.items())})


def fields(content: bytes) -> tuple[str, tuple[int], str, bytes]:
    """A content as Flower's Array takes it."""
    return "uint8", (len(content),), "safetensors", content


def veil(content: bytes, nonce: str) -> bytes:
    """The content under a key stream that the nonce gives, and itself again the second time; no secret.

    Flower names its objects by their content, and who can tell an object's name before it is sent can get in its way.
    No part of a veiled content can be foretold.

    Args:
        nonce: random, and told to whoever unpacks; empty for the content itself.
    """
    if not nonce:
        return content
    stream = Cipher(algorithms.ChaCha20(hashlib.sha256(nonce.encode()).digest(), bytes(16)), mode=None)
    return stream.encryptor().update(content)


def unpack(content: bytes, nonce: str = "") -> Arrays:
    """The arrays in their order; nothing in them can run, and they take no more memory than came.

    Raises:
        ValueError: it is not what `pack` makes with this nonce.
    """
    content = veil(content, nonce)
    if int.from_bytes(content[:8], "little") > min(MAX_HEADER, len(content)):
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
