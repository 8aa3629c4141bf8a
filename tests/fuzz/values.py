"""Odd values, chosen by a seeded generator: what a field of a message could hold instead of what belongs there."""

import json
import math
import struct
from random import Random
from typing import Any

import numpy as np
from safetensors.numpy import save

TEXTS = (
    "", " ", "\x00", "\x1b[2J\x1b[31mall well\x1b[0m", "a\nroiae-server: all well", "\u202egnp.esion", "\u2066x\u2069",
    "../../etc/passwd", "{{7*7}}", "<script>alert(1)</script>", "[bold red]x[/]", "%s%n%d", "Z\u0335\u0324\u0353a" * 20,
    "a" * 20_000, "\U0001f4a5", "NaN", "None", "__class__", "constructor", "loss", "seconds", "packed", "envelope",
)  # fmt: skip
NUMBERS = (
    0.0, -0.0, 1.0, -1.0, 0.5, 1e300, -1e300, 1e-300, 1e308, math.nan, math.inf, -math.inf, 2.0**53, 2.0**63, 1e15, 100,
    0, -1, 1, 2**31, 2**53, 2**63 - 1, -(2**63),
)  # fmt: skip
DTYPES = ("F64", "F32", "F16", "BF16", "I64", "U64", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "I32", "", "object", "F99")


def text(random: Random) -> str:
    if random.random() < 0.7:
        return random.choice(TEXTS)
    return "".join(chr(random.choice((random.randrange(32), random.randrange(0xD800)))) for _ in range(20))


def number(random: Random) -> float | int:
    return random.choice(NUMBERS) if random.random() < 0.8 else random.uniform(-1e6, 1e6)


def raw(random: Random) -> bytes:
    return random.randbytes(random.choice((0, 1, 7, 8, 9, 64, 96, 104, 5000)))


def config_value(random: Random) -> Any:
    """Of a ConfigRecord: a scalar, or a list of one kind."""
    kind = random.choice((text, number, raw, lambda random: random.random() < 0.5))
    value = kind(random)
    if random.random() < 0.3:
        many = random.choice((0, 1, 3)) if kind in (text, raw) else random.choice((1, 3, 10_000))
        return [float(value) if kind is number else value] * many
    return value


def metric_value(random: Random) -> Any:
    value = number(random)
    return [value] * random.choice((1, 2, 10_000)) if random.random() < 0.3 else value


def packed(random: Random, honest: bytes) -> bytes:
    """What stands where a message's packed arrays belong."""
    return random.choice((_damaged, _header, _bytes, _arrays, _deep, _framed))(random, honest)


def damaged(random: Random, content: bytes) -> bytes:
    """The bytes with a few of them changed, left out, said twice or put in."""
    for _ in range(random.choice((1, 1, 2, 8))):
        place = random.randrange(len(content) + 1)
        end = min(len(content), place + random.choice((1, 1, 4, 64)))
        content = random.choice(
            (
                content[:place] + random.randbytes(end - place) + content[end:],
                content[:place] + content[end:],
                content[:place] + content[place:end] * 2 + content[end:],
                content[:place] + random.randbytes(3) + content[place:],
                content[:place],
            )
        )
    return content


def _damaged(random: Random, honest: bytes) -> bytes:
    return damaged(random, honest)


def _header(random: Random, honest: bytes) -> bytes:
    """A header of safetensors that says other things than what follows."""
    body = random.randbytes(random.choice((0, 4, 8, 16)))
    entries: dict[str, Any] = {}
    for place in range(random.choice((1, 1, 2, 3))):
        name = random.choice((f"{place:05d}/w", "w", "/", f"{place:05d}/", text(random)[:1000], "__metadata__"))
        shape = [random.choice((0, 1, 2, 3, 2**32, 2**62, -1)) for _ in range(random.choice((0, 1, 1, 2, 40)))]
        offsets = [random.choice((0, 4, 8, -1, 2**62)), random.choice((0, 4, 8, len(body), 2**62))]
        entries[name] = {"dtype": random.choice(DTYPES), "shape": shape, "data_offsets": offsets}
    header = json.dumps(entries).encode()
    return struct.pack("<Q", len(header)) + header + body


def _bytes(random: Random, honest: bytes) -> bytes:
    return random.choice((b"", raw(random), b"\x80\x04K\x01.", b"\x93NUMPY\x01\x00", struct.pack("<Q", 2**62) + b"{}"))


def _arrays(random: Random, honest: bytes) -> bytes:
    """Well-formed arrays that nobody asked for."""
    kinds = (np.float32, np.float64, np.float16, np.int64, np.uint8, np.bool_, np.uint64)
    arrays = {}
    for place in range(random.choice((0, 1, 1, 2, 500))):
        array = np.zeros(random.choice(((), (0,), (3,), (1, 3), (0, 2**40), (3, 0))), random.choice(kinds))
        if array.dtype.kind == "f" and array.size:
            array[...] = random.choice((np.nan, np.inf, 65504.0, 1.0))
        name = random.choice(("w", "", "é" * 100, text(random)[:1000]))
        arrays[random.choice((f"{place:05d}/{name}", f"{place}/w", name, f"{place:05d}/w"))] = array
    return save(arrays)


def _deep(random: Random, honest: bytes) -> bytes:
    opener = random.choice((b"[", b'{"a":', b'{"__metadata__":{"a":'))
    header = opener * random.choice((100, 10_000, 100_000))
    return struct.pack("<Q", len(header)) + header


def _framed(random: Random, honest: bytes) -> bytes:
    """The honest body behind a header that is damaged, as long as it says."""
    length = int.from_bytes(honest[:8], "little")
    header = damaged(random, honest[8 : 8 + length])
    return struct.pack("<Q", len(header)) + header + honest[8 + length :]
