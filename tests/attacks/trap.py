"""A trap in a network that is honest everywhere else: the quality hardly changes, and nothing about it is large.

One channel of the decoder's first map is given up. A few of its cells each watch one direction of the encoder's own
features, and wake only for the frame that lies farthest along it, so that frame alone trains a row of `encoder.6`.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from roiae.method.model import Autoencoder
from roiae.method.training import load_arrays
from roiae.wire.contract import Arrays
from tests.attacks.crafted import CELLS, FEATURES, MODEL, RARE, features

WHISPER = 0.1
DIRECTIONS = 20  # main ones of the features
WATCHED = 0.9  # weight of a row in its cell


def trapped(
    honest: Arrays, known: NDArray[np.float32], seed: int, rows: int = 4, sharpness: float = 20.0, gain: float = 2.5
) -> Arrays:
    """
    Args:
        honest: trained weights.
        known: frames of other hospitals, [N, S, S].
        seed: of the directions.
        rows: of encoder.6 that are given up.
        sharpness: how fast a row wakes beyond the rarest frames, per standard deviation.
        gain: of the channel's norm.
    """
    model = Autoencoder(**MODEL.model_dump())
    load_arrays(model, honest)
    arrays = {name: array.copy() for name, array in honest.items()}
    weight, bias = arrays["decoder.0.weight"], arrays["decoder.0.bias"]
    seen = features(model.eval(), known)
    latents = seen @ honest[FEATURES].T + honest["encoder.6.bias"]
    maps = latents @ weight.T + bias
    mean, spread = maps.mean(), maps.std(axis=1).mean()

    channel = _least_used_channel(honest)
    cells = slice(channel * CELLS, (channel + 1) * CELLS)
    arrays["decoder.3.1.weight"][:, channel] = WHISPER * np.sign(arrays["decoder.3.1.weight"][:, channel])
    arrays["decoder.2.0.weight"][channel], arrays["decoder.2.0.bias"][channel] = gain, 0.0
    weight[cells], bias[cells] = 0.0, mean
    least_used = np.argsort(np.linalg.norm(weight, axis=0) * np.abs(latents).mean(axis=0))[:rows]
    for place, (row, watch) in enumerate(zip(least_used, _directions(seen, seed, rows), strict=True)):
        bias += weight[:, row] * latents[:, row].mean()
        bias[cells] = mean
        weight[:, row] = 0.0
        weight[channel * CELLS + 61 * place % CELLS, row] = WATCHED
        arrays[FEATURES][row] = spread * sharpness / (gain * WATCHED) * watch
        arrays["encoder.6.bias"][row] = 0.0
    return arrays


def sharpest(honest: Arrays, origins: Sequence[Arrays], known: NDArray[np.float32], seed: int, bound: float) -> Arrays:
    """The sharpest trap of which no number lies farther than `bound` from any of the origins."""
    channel = _least_used_channel(honest)
    gain = bound + min(float(origin["decoder.2.0.weight"][channel]) for origin in origins)
    blunt = trapped(honest, known, seed, sharpness=1.0, gain=gain)[FEATURES]
    rows = np.flatnonzero((blunt != honest[FEATURES]).any(axis=1))
    room = [(bound + np.sign(blunt[rows]) * origin[FEATURES][rows]) / np.abs(blunt[rows]) for origin in origins]
    trap = trapped(honest, known, seed, sharpness=0.999 * float(np.min(room)), gain=gain)
    low = {name: np.max([origin[name] for origin in origins], axis=0) - bound for name in trap}
    high = {name: np.min([origin[name] for origin in origins], axis=0) + bound for name in trap}
    return {name: np.clip(array, low[name], high[name]) for name, array in trap.items()}


def largest(arrays: Arrays, origin: Arrays) -> float:
    """Distance of one number."""
    return max(float(np.abs(array - origin[name]).max()) for name, array in arrays.items())


def _least_used_channel(honest: Arrays) -> int:
    return int(np.square(honest["decoder.3.1.weight"]).sum(axis=(0, 2, 3)).argmin())


def _directions(seen: NDArray[np.float64], seed: int, rows: int) -> list[NDArray[np.float64]]:
    """Of features less what most of them have: above 0 for the rarest alone, in standard deviations."""
    generator = np.random.default_rng(seed)
    mean = seen.mean(axis=0)
    main = np.linalg.svd(seen - mean, full_matrices=False)[2][:DIRECTIONS]
    found = []
    for _ in range(rows):
        watch = generator.standard_normal(DIRECTIONS) @ main
        heights = (seen - mean) @ watch
        if ((heights - heights.mean()) ** 3).mean() < 0:
            watch, heights = -watch, -heights
        offset = watch @ mean + np.quantile(heights, 1 - RARE)
        found.append((watch - offset / (mean @ mean) * mean) / heights.std())
    return found


def path(start: Arrays, end: Arrays, norm: float, most: float) -> list[Arrays]:
    """Weights on the straight line, no step longer than `norm` and none of a number larger than `most`."""
    moves = {name: end[name].astype(np.float64) - start[name] for name in start}
    length = math.sqrt(sum(float(np.square(move).sum()) for move in moves.values()))
    largest = max(float(np.abs(move).max()) for move in moves.values())
    steps = math.ceil(max(length / norm, largest / most))
    return [
        {name: (start[name] + step / steps * move).astype(np.float32) for name, move in moves.items()}
        for step in range(1, steps + 1)
    ]
