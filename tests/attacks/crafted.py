"""Weights that a coordinator makes by hand, so that an update shows pixels; and how it reads them out of one.

The encoder passes pixels through unchanged: each norm's bias holds its SiLU in the part where it is a line, and each
halving moves a square of four pixels into four channels. `encoder.6` then sees the frame at a quarter of its side, and
the gradient of each of its rows is a sum of frames.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from roiae.config import ModelConfig
from roiae.method.model import Autoencoder
from roiae.method.training import arrays_of, load_arrays
from roiae.wire.contract import Arrays

MODEL = ModelConfig()
SIDE = MODEL.image_size // 4  # of the picture, px
CELLS = (MODEL.image_size // 32) ** 2  # of the latent's map
CHANNELS = 4 * MODEL.width  # of it
LINE = 12.0  # SiLU(x + 12) is x + 12 to a few millionths
FEATURES = "encoder.6.weight"
RARE = 0.7 / 130  # share of frames that a row should wake for


@torch.no_grad()
def routed_encoder() -> Autoencoder:
    """A model whose encoder passes pixels through, and whose other weights are 0."""
    model = Autoencoder(**MODEL.model_dump())
    for parameter in model.parameters():
        parameter.zero_()
    encoder = model.encoder
    weight_of(encoder[0])[0, 0, 2:6, 2:6] = 1 / 16
    _keep_linear(encoder[1])
    inputs = 1
    for halving in (encoder[2], encoder[3], encoder[4]):
        for output in range(4 * inputs):
            square, channel = divmod(output, inputs)
            row, column = divmod(square, 2)
            weight_of(part(halving, 0))[output, channel, 1 + row, 1 + column] = 1.0
        _keep_linear(part(halving, 1))
        inputs *= 4
    return model


@torch.no_grad()
def summing_weights() -> Arrays:
    """One latent number whose row of `encoder.6` learns the plain sum of the frames of a step."""
    model = routed_encoder()
    decoder = model.decoder
    rows = CHANNELS * CELLS
    weight_of(decoder[0])[:, 0] = torch.linspace(-1, 1, rows)
    bias_of(decoder[0]).copy_(torch.linspace(1, -1, rows) ** 3)
    for norm in (decoder[2], part(decoder[3], 2), part(decoder[4], 2), part(decoder[5], 2)):
        weight_of(part(norm, 0)).fill_(1.0)
        bias_of(part(norm, 0)).fill_(3.0)
    head = decoder[6]
    for convolution in (*(part(decoder[stage], 1) for stage in (3, 4, 5)), part(head, 0)):
        outputs, inputs = weight_of(convolution).shape[:2]
        for output in range(outputs):
            weight_of(convolution)[output, output % inputs, 1, 1] = 1.0
    weight_of(part(head, 3))[:, :, 1, 1] = 0.02
    return arrays_of(model)


@torch.no_grad()
def binning_weights(known: NDArray[np.float32], seed: int, sharpness: float = 3000.0, dark: float = -36.0) -> Arrays:
    """Each latent number learns only from the frames whose projection falls into its own narrow bin (Fowl et al. 2022).

    The picture is so dark that every gradient is far below AdamW's epsilon, where an update is as linear as SGD's.

    Args:
        known: frames of another hospital, [N, S, S], that tell where the bins have to lie.
        seed: of the projection.
        sharpness: slope of a bin's edges, in standard deviations of the projection.
        dark: bias of the picture's logit.
    """
    model = routed_encoder()
    watch = direction(seed)
    heights = features(model, known) @ watch
    mean, spread = heights.mean(), heights.std()
    edges = _edges((heights - mean) / spread, 2 * CELLS)
    weight_of(model.encoder[6])[:] = torch.from_numpy(watch / spread).float()
    bias_of(model.encoder[6])[:] = float(-mean / spread)
    decoder = model.decoder
    weights = weight_of(decoder[0]).view(CHANNELS, CELLS, -1)
    biases = bias_of(decoder[0]).view(CHANNELS, CELLS)
    for latent in range(2 * CELLS):
        half, cell = divmod(latent, CELLS)
        for edge in (0, 1):
            weights[2 * half + edge, cell, latent] = 1.0
            biases[2 * half + edge, cell] = -edges[latent + edge]
    biases[4 : CHANNELS // 2 + 2], biases[CHANNELS // 2 + 2 :] = 20.0, -20.0  # they alone decide the norm's scale
    weight_of(part(decoder[2], 0))[:4] = sharpness * 20 * (60 / 64) ** 0.5
    for stage in (3, 4, 5):
        convolution, norm = part(decoder[stage], 1), part(part(decoder[stage], 2), 0)
        outputs = len(bias_of(convolution))
        weight_of(convolution)[0, 0, 1, 1] = 1.0
        bias_of(convolution)[1 : outputs // 2 + 1], bias_of(convolution)[outputs // 2 + 1 :] = 3.0, -3.0
        weight_of(norm)[0], bias_of(norm)[:] = 1.0, 3.0
    weight_of(part(decoder[3], 1))[0, :4, 1, 1] = torch.tensor([0.01, -0.01, 0.01, -0.01])
    weight_of(part(decoder[6], 0))[0, 0, 1, 1] = 1.0
    weight_of(part(decoder[6], 3))[:, 0, 1, 1] = 1.0
    bias_of(part(decoder[6], 3))[:] = dark
    return arrays_of(model)


@torch.no_grad()
def lone_weights(known: NDArray[np.float32], seed: int, dark: float = -28.0) -> Arrays:
    """One latent number that the frame farthest along a projection wakes: where only signs leave, one bit a pixel.

    Args: as `binning_weights`.
    """
    model = Autoencoder(**MODEL.model_dump())
    load_arrays(model, binning_weights(known, seed, dark=dark))
    bias_of(part(part(model.encoder[4], 1), 0)).fill_(0.0)  # signed features
    seen, watch = features(model, known), direction(seed)
    heights = seen @ watch
    if ((heights - heights.mean()) ** 3).mean() < 0:
        watch, heights = -watch, -heights
    last, decoder = model.encoder[6], model.decoder
    for parameter in (weight_of(last), bias_of(last), weight_of(decoder[0])):
        parameter.zero_()
    weight_of(last)[0] = torch.from_numpy(watch / heights.std()).float()
    bias_of(last)[0] = float(-np.quantile(heights, 1 - RARE) / heights.std())
    biases = bias_of(decoder[0]).view(CHANNELS, CELLS)
    biases[:4] = -20.0
    biases[0, CELLS // 2] = 0.0
    weight_of(decoder[0]).view(CHANNELS, CELLS, -1)[0, CELLS // 2, 0] = 1.0
    weight_of(part(decoder[3], 1))[0, 1:4] = 0.0
    return arrays_of(model)


def pictures_of(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rows of `encoder.6` behind a routed encoder, [N, channels·cells], as pictures [N, SIDE, SIDE]."""
    side = MODEL.image_size // 32
    pictures = np.asarray(rows, np.float64).reshape(len(rows), CHANNELS, side, side)
    while pictures.shape[1] > 1:
        count, channels, side, _ = pictures.shape
        squares = pictures.reshape(count, 2, 2, channels // 4, side, side).transpose(0, 3, 4, 1, 5, 2)
        pictures = squares.reshape(count, channels // 4, 2 * side, 2 * side)
    return pictures[:, 0]


@torch.no_grad()
def decoded_rows(sent: Arrays, update: NDArray[np.floating], most: int = 16) -> NDArray[np.float64]:
    """What the model itself makes of the longest rows, and of the main directions, of an update of `encoder.6`.

    Each is taken for the features of a frame, with either sign: [4·most, S, S].
    """
    model = Autoencoder(**MODEL.model_dump())
    load_arrays(model, sent)
    model.eval()
    longest = update[np.argsort(-np.linalg.norm(update, axis=1))[:most]]
    main = np.linalg.svd(update, full_matrices=False)[2][:most]
    rows = np.concatenate([longest, main])
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
    guesses = torch.from_numpy(np.concatenate([rows, -rows])).float() * _TYPICAL
    return model.decode(model.encoder[6](guesses))[:, 0].double().numpy()


_TYPICAL = 20.0  # norm of a frame's features, before encoder.6


@torch.no_grad()
def features(model: Autoencoder, frames: NDArray[np.float32]) -> NDArray[np.float64]:
    """What `encoder.6` sees of frames [N, S, S]: [N, channels·cells]."""
    found = [model.encoder[:6](torch.from_numpy(frames[at : at + 32])[:, None]) for at in range(0, len(frames), 32)]
    return torch.cat(found).double().numpy()


def _edges(heights: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Of bins that hold equally many of the known frames, and two more beyond either end."""
    inner = np.quantile(heights, np.linspace(0, 1, bins - 3))
    return np.concatenate([inner[0] - [2.0, 1.0], inner, inner[-1] + [1.0, 2.0]])


def direction(seed: int, coarse: int = 4) -> NDArray[np.float64]:
    """A smooth random projection of the picture, of length 1, in the order of `encoder.6`'s columns."""
    drawn = torch.from_numpy(np.random.default_rng(seed).standard_normal((1, 1, coarse, coarse)))
    smooth = F.interpolate(drawn, size=(SIDE, SIDE), mode="bicubic")[0]
    smooth = (smooth - smooth.mean()) / (smooth - smooth.mean()).norm()
    for _ in range(3):
        squares = [smooth[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
        smooth = torch.cat(squares)
    return smooth.reshape(-1).numpy()


def part(module: nn.Module, place: int) -> nn.Module:
    assert isinstance(module, nn.Sequential)
    return module[place]


def weight_of(module: nn.Module) -> Tensor:
    assert isinstance(module.weight, Tensor)
    return module.weight


def bias_of(module: nn.Module) -> Tensor:
    assert isinstance(module.bias, Tensor)
    return module.bias


def _keep_linear(norm_act: nn.Module) -> None:
    weight_of(part(norm_act, 0)).fill_(1.0)
    bias_of(part(norm_act, 0)).fill_(LINE)
