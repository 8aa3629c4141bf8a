"""Multi-scale structural similarity (Wang, Simoncelli and Bovik 2003), data range 1, one channel.

Equal to `pytorch_msssim.ms_ssim`, and many times as fast on a CPU (docs/PERFORMANCE.md). The Gaussian window is written
as a banded matrix G, so that blurring a map X is two matrix products, G X Gᵀ, which is what a CPU is built for. The two
variances occur only as their sum, so four maps are blurred instead of five; the gradient is written out, and blurs
three.
"""

from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, SIGMA = 11, 1.5  # px, at every scale
C1, C2 = 0.01**2, 0.03**2
STRIP = 32  # rows of G in one product: most of a large G is zeros

Strip = tuple[slice, slice, Tensor]  # rows of G, the columns where they are not zero, and what stands there


def ms_ssim(recon: Tensor, frame: Tensor) -> Tensor:
    """MS-SSIM of each frame: ∏ over scales of contrast·structure^weight, times luminance at the coarsest.

    A frame with a negative factor scores 0, as in `pytorch_msssim`; its gradient is 0 instead of NaN.

    Args:
        recon, frame: [B, 1, H, W], intensity in [0, 1]; H and W multiples of 16 and at least 176 px. A gradient flows
            into the reconstruction alone.

    Returns:
        [B], at most 1; computed in float32 (float64 for float64 input) under autocast too.
    """
    x, y = _exact(recon), _exact(frame.detach())
    score = torch.ones((), dtype=x.dtype, device=x.device)
    last = len(SCALE_WEIGHTS) - 1
    with torch.autocast(x.device.type, enabled=False):
        for scale, weight in enumerate(SCALE_WEIGHTS):
            if scale:
                x, y = _halve(x), _halve(y)
            factor = cast(Tensor, _Similarity.apply(x, y, scale == last))  # type: ignore[no-untyped-call]
            score = score * torch.where(factor > 0, factor.clamp_min(1e-12) ** weight, 0.0)
    return score


class _Similarity(torch.autograd.Function):
    """Mean over one scale of cs, contrast·structure, at the coarsest times l, luminance; [B, 1, H, W] → [B].

    With b the blur, μx = b(x), μy = b(y), S = b(x² + y²) and P = b(xy),

        cs = (2(P − μxμy) + C2) / (S − μx² − μy² + C2),    l = (2μxμy + C1) / (μx² + μy² + C1),

    and the gradient by x is b'(∂/∂μx) + 2x b'(∂/∂S) + y b'(∂/∂P), where b' spreads what b gathers.
    """

    @staticmethod
    def forward(ctx: Any, recon: Tensor, frame: Tensor, luminance: bool) -> Tensor:
        x, y = (image.squeeze(1).transpose(0, 1) for image in (recon, frame))  # [H, B, W]: blurred in two products
        maps = x.new_empty(len(x), 4, *x.shape[1:])
        maps[:, 0], maps[:, 1] = x, y
        torch.mul(x, x, out=maps[:, 2]).addcmul_(y, y)
        torch.mul(x, y, out=maps[:, 3])
        mean_x, mean_y, squares, product = _blur(maps).unbind(1)
        means, mean_squares = mean_x * mean_y, (mean_x * mean_x).addcmul_(mean_y, mean_y)
        inverse = squares.sub_(mean_squares).add_(C2).reciprocal_()
        similarity = product.sub_(means).mul_(2).add_(C2).mul_(inverse)
        if luminance:
            bright = (2 * means + C1) / (mean_squares + C1)
        if ctx.needs_input_grad[0]:
            by_maps = x.new_empty(len(similarity), 3, *similarity.shape[1:])  # of mean_x, squares and product
            torch.mul(mean_x, similarity, out=by_maps[:, 0]).sub_(mean_y).mul_(inverse).mul_(2)
            torch.mul(similarity, inverse, out=by_maps[:, 1]).neg_()
            torch.mul(inverse, 2, out=by_maps[:, 2])
            if luminance:
                by_maps *= bright[:, None]
                by_maps[:, 0] += 2 * similarity * (mean_y - mean_x * bright) / (mean_squares + C1)
            ctx.save_for_backward(x, y, by_maps)
        return (similarity * bright if luminance else similarity).mean(dim=(0, 2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        x, y, by_maps = ctx.saved_tensors
        by_mean, by_squares, by_product = _blur(by_maps, spread=True).unbind(1)
        by_mean.addcmul_(x, by_squares, value=2).addcmul_(y, by_product)
        gradient = by_mean * (upstream / by_maps[:, 0, 0].numel())[:, None]
        return gradient.transpose(0, 1)[:, None], None, None


class _Halve(torch.autograd.Function):
    """The mean of each two by two pixels, as `avg_pool2d(image, 2)`, which takes a CPU five times as long."""

    @staticmethod
    def forward(ctx: Any, image: Tensor) -> Tensor:
        rows = image[..., ::2, :] + image[..., 1::2, :]
        return (rows[..., ::2] + rows[..., 1::2]).mul_(0.25)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        return F.interpolate(upstream * 0.25, scale_factor=2.0, mode="nearest")


def _halve(image: Tensor) -> Tensor:
    return cast(Tensor, _Halve.apply(image))  # type: ignore[no-untyped-call]


def _blur(maps: Tensor, *, spread: bool = False) -> Tensor:
    """Gaussian window over the first and the last axis, only where it fits: [H, ..., W] → [H − 10, ..., W − 10].

    Args:
        spread: the transpose of that, [H, ..., W] → [H + 10, ..., W + 10].
    """
    height, width = maps.shape[0], maps.shape[-1]
    rows = _product(_strips(height, spread, maps.dtype, maps.device), maps.reshape(height, -1))
    columns = _product(_strips(width, spread, maps.dtype, maps.device), rows.view(-1, width).T)
    return columns.T.view(len(rows), *maps.shape[1:-1], len(columns))


def _product(strips: list[Strip], maps: Tensor) -> Tensor:
    """The banded matrix that the strips make up times maps [S, N], in the maps' own order of memory."""
    out = maps.new_empty(strips[-1][0].stop, maps.shape[1])
    if not maps.is_contiguous():
        out = maps.T.new_empty(maps.shape[1], len(out)).T
    for rows, columns, piece in strips:
        torch.mm(piece, maps[columns], out=out[rows])
    return out


@cache
def _strips(size: int, spread: bool, dtype: torch.dtype, device: torch.device) -> list[Strip]:
    """G, [size − 10, size], each row the window, one pixel further to the right; or the transpose of a larger G."""
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    window = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    window /= window.sum()
    longer = size + WINDOW - 1 if spread else size
    matrix = torch.zeros(longer - WINDOW + 1, longer, dtype=torch.float64)
    for place, row in enumerate(matrix):
        row[place : place + WINDOW] = window
    matrix = matrix.T if spread else matrix
    strips = []
    for first in range(0, len(matrix), STRIP):
        piece = matrix[first : first + STRIP]
        places = piece.any(dim=0).nonzero()
        columns = slice(int(places[0]), int(places[-1]) + 1)
        strips.append((slice(first, first + len(piece)), columns, piece[:, columns].to(device, dtype).contiguous()))
    return strips


def _exact(image: Tensor) -> Tensor:
    return image if image.dtype == torch.float64 else image.float()
