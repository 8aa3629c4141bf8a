"""Weights near a run's own initialisation whose picture is flat, so that a frame's pixels are left in the update.

The encoder passes means over 4×4 pixels on to `encoder.6`. A few of its rows each watch a direction, and wake a unit
of the decoder for the frames that lie farthest along it. No number has to be large for that: a norm has no scale of
its own, so rows of small numbers beside small constants are as sharp as large ones. A path of small weights to the
picture keeps every gradient far below AdamW's epsilon, where its update is linear.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from roiae.method.losses import Comparison, ms_ssim_loss
from roiae.method.model import Autoencoder
from roiae.method.training import arrays_of, load_arrays
from roiae.wire.contract import Arrays
from tests.attacks.crafted import CELLS, FEATURES, MODEL, RARE, bias_of, direction, features, part, weight_of

GATES = 12  # rows
GRADIENT = 1e-10  # largest of encoder.6
ROW, CONSTANT = 0.005, 0.007  # largest number of a row; what decides the scale of the norm behind it
GREY = -1.5  # the picture's logit
TRIALS = 4  # of the path's weights, until the gradient is as small as it should be


def flat_weights(start: Arrays, known: NDArray[np.float32], seed: int, radius: float) -> Arrays:
    """
    Args:
        start: the run's own initialisation.
        known: frames of other hospitals, [N, S, S].
        seed: of the directions.
        radius: how far a number may lie from its start.
    """
    path = 0.01
    for _ in range(TRIALS):
        made = _flat(known, seed, 0.94 * radius, path)
        made = {name: np.clip(array, start[name] - radius, start[name] + radius) for name, array in made.items()}
        found = _largest_gradient(made, known)
        if 0.5 < found / GRADIENT < 2:
            break
        path *= (GRADIENT / max(found, 1e-20)) ** 0.2  # five weights lie on it
    return made


@torch.no_grad()
def _flat(known: NDArray[np.float32], seed: int, most: float, path: float) -> Arrays:
    model = Autoencoder(**MODEL.model_dump())
    for parameter in model.parameters():
        parameter.fill_(1.0 if parameter.ndim == 1 else 0.0)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
    _route(model.encoder, most)
    _dim(model.decoder, most, path)
    seen, rows = features(model, known), weight_of(model.encoder[6])
    of_ones = seen.sum(axis=1)
    for place in range(GATES):
        watch = direction(GATES * seed + place, coarse=6)
        watch *= ROW / np.abs(watch).max()
        for _ in range(2):
            watch -= np.quantile(seen @ watch, 1 - RARE) / of_ones.mean()
        rows[place] = torch.from_numpy(watch)
        weight_of(model.decoder[0])[place, place] = min(most, 1.0)
    _in_halves(bias_of(model.decoder[0])[CELLS:], CONSTANT)
    weight_of(part(model.decoder[2], 0))[0] = 1 + most
    return arrays_of(model)


def _route(encoder: nn.Sequential, most: float) -> None:
    """Means over squares, in the part where SiLU is nearly a line; other channels are constants that set the norms."""
    weight_of(encoder[0])[0, 0, 2:6, 2:6] = min(1.0, 2 * most) / 4
    _in_halves(bias_of(encoder[0])[1:], 0.9 * most)
    bias_of(part(encoder[1], 0))[0] = most
    inputs, beyond = 1, torch.zeros(1)
    tap = min(1.0, most)
    for halving in (encoder[2], encoder[3], encoder[4]):
        outputs = 4 * inputs
        squares, norm = part(halving, 0), part(part(halving, 1), 0)
        for output in range(outputs):
            square, channel = divmod(output, inputs)
            weight_of(squares)[output, channel, 1 + square // 2, 1 + square % 2] = tap
            bias_of(squares)[output] = -tap * (_silu(most) + beyond[channel])
        _in_halves(bias_of(squares)[outputs:], 0.9 * most)
        bias_of(norm)[:outputs] = most
        body = part(halving, 2).get_submodule("body")  # a constant: else its norm would amplify what a round moves
        signs = torch.tensor([1.0, -1.0]).repeat(len(bias_of(part(body, 0))) // 2)
        bias_of(part(body, 0))[:] = most * signs
        weight_of(part(part(body, 1), 0)).fill_(max(0.0, 1 - most))
        beyond = _silu(max(0.0, 1 - most) * most / (most**2 + 1e-5) ** 0.5 * signs)
        inputs = outputs


def _dim(decoder: nn.Sequential, most: float, path: float) -> None:
    """One channel passes, times `path` at each stage, to a flat picture."""
    for stage in (decoder[3], decoder[4], decoder[5]):
        convolution = part(stage, 1)
        weight_of(convolution)[0, 0, 1, 1] = path
        _in_halves(bias_of(convolution)[1:], 0.9 * most)
        bias_of(part(part(stage, 2), 0))[:] = most
    first, last = part(decoder[6], 0), part(decoder[6], 3)
    weight_of(first)[0, 0, 1, 1], weight_of(last)[:, 0, 1, 1] = path, path
    bias_of(first)[:], bias_of(last)[:] = most, max(GREY, -most)


def _largest_gradient(arrays: Arrays, known: NDArray[np.float32]) -> float:
    """Of encoder.6, in a step over frames that wake its rows most."""
    model = Autoencoder(**MODEL.model_dump())
    load_arrays(model, arrays)
    heights = features(model, known) @ arrays[FEATURES][:GATES].T
    frames = torch.from_numpy(known[np.unique(heights.argmax(axis=0))[:4]])[:, None]
    rois = torch.tensor([[60, 120, 180, 150]] * len(frames))
    loss = ms_ssim_loss(Comparison(model(frames), frames, rois))
    return float(torch.autograd.grad(loss, model.get_parameter(FEATURES))[0].abs().max())


def _in_halves(bias: Tensor, size: float) -> None:
    bias[: len(bias) // 2], bias[len(bias) // 2 :] = size, -size


def _silu(value: Tensor | float) -> Tensor:
    return torch.nn.functional.silu(torch.as_tensor(value))
