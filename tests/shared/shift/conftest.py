"""Pretend hospitals: their latents, and what they need to tell each other something.

Latents are correlated, offset from each other, uneven in number, and float32 as an encoder gives.
"""

from collections.abc import Callable

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from roiae.shift.group import Group

Latents = NDArray[np.float32]
FRAMES = (160, 75, 240, 52, 118)
SOURCES = ("a", "b", "c")


def hospital_latents(sources: int, dim: int = 24, offset: float = 0.6) -> dict[str, Latents]:
    rng = np.random.default_rng(sources)
    mixing = rng.normal(size=(dim, dim)) * np.linspace(0.2, 1.5, dim)
    return {
        f"site{place}": (rng.normal(size=(FRAMES[place], dim)) @ mixing + offset * rng.normal(size=dim) * 3 + 5).astype(
            np.float32
        )
        for place in range(sources)
    }


@pytest.fixture(params=[2, 5], ids=["two-sources", "five-sources"])
def latents(request: pytest.FixtureRequest) -> dict[str, Latents]:
    return hospital_latents(request.param)


@pytest.fixture
def make_latents() -> Callable[..., dict[str, Latents]]:
    """(number of sources, dimension, offset between hospitals) → latents by hospital."""
    return hospital_latents


def groups(
    sources: tuple[str, ...] = SOURCES, others: tuple[str, ...] = ("held",), about: str = "e"
) -> dict[str, Group]:
    private = {name: X25519PrivateKey.generate() for name in (*sources, *others)}
    keys = {name: key.public_key().public_bytes_raw() for name, key in private.items()}
    return {name: Group(name, key, sources, keys, about) for name, key in private.items()}
