"""A trap in a network that is honest everywhere else: the quality hardly changes, and nothing about it is large.

One channel of the decoder's first map is given up. A few of its cells each watch one direction of the encoder's own
features, and wake only for the frame that lies farthest along it, so that frame alone trains a row of `encoder.6`.
"""

import math

import numpy as np
from numpy.typing import NDArray

from roiae.contract import Arrays
from roiae.model import Autoencoder
from roiae.training import load_arrays
from tests.attacks.crafted import CELLS, FEATURES, MODEL, RARE, features

ROWS = 4  # of encoder.6 that are given up
SHARPNESS, GAIN, WHISPER = 20.0, 2.5, 0.1
DIRECTIONS = 20  # main ones of the features


def trapped(honest: Arrays, known: NDArray[np.float32], seed: int) -> Arrays:
    """
    Args:
        honest: trained weights.
        known: frames of other hospitals, [N, S, S].
        seed: of the directions.
    """
    model = Autoencoder(**MODEL.model_dump())
    load_arrays(model, honest)
    arrays = {name: array.copy() for name, array in honest.items()}
    weight, bias = arrays["decoder.0.weight"], arrays["decoder.0.bias"]
    seen = features(model.eval(), known)
    latents = seen @ honest[FEATURES].T + honest["encoder.6.bias"]
    maps = latents @ weight.T + bias
    mean, spread = maps.mean(), maps.std(axis=1).mean()

    channel = int(np.square(honest["decoder.3.1.weight"]).sum(axis=(0, 2, 3)).argmin())
    cells = slice(channel * CELLS, (channel + 1) * CELLS)
    arrays["decoder.3.1.weight"][:, channel] = WHISPER * np.sign(arrays["decoder.3.1.weight"][:, channel])
    arrays["decoder.2.0.weight"][channel], arrays["decoder.2.0.bias"][channel] = GAIN, 0.0
    weight[cells], bias[cells] = 0.0, mean
    least_used = np.argsort(np.linalg.norm(weight, axis=0) * latents.std(axis=0))[:ROWS]
    for place, (row, watch) in enumerate(zip(least_used, _directions(seen, seed), strict=True)):
        bias += weight[:, row] * latents[:, row].mean()
        bias[cells] = mean
        weight[:, row] = 0.0
        weight[channel * CELLS + 61 * place % CELLS, row] = 1.0
        arrays[FEATURES][row] = spread * SHARPNESS / GAIN * watch
        arrays["encoder.6.bias"][row] = 0.0
    return arrays


def _directions(seen: NDArray[np.float64], seed: int) -> list[NDArray[np.float64]]:
    """Of features less what most of them have: above 0 for the rarest alone, in standard deviations."""
    generator = np.random.default_rng(seed)
    mean = seen.mean(axis=0)
    main = np.linalg.svd(seen - mean, full_matrices=False)[2][:DIRECTIONS]
    found = []
    for _ in range(ROWS):
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
