"""Multi-scale structural similarity (Wang, Simoncelli and Bovik 2003), data range 1, one channel.

Equal to `pytorch_msssim.ms_ssim`, and many times as fast on a CPU (docs/PERFORMANCE.md). It is written in the sum
s = x + y and the difference d = x − y of reconstruction and frame, whose local variances Vs and Vd hold both variances
and the covariance: σx² + σy² = (Vs + Vd)/2 and 2σxy = (Vs − Vd)/2. Four maps a scale are blurred, and three for the
gradient, which is written out.

Maps are kept as [maps, H, W, B]: a processor's vector then holds neighbouring frames or columns, which all do the same.
"""

import math
from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, SIGMA = 11, 1.5  # px, at every scale
C1, C2 = 0.01**2, 0.03**2
LANES = 16  # numbers that a processor works on at once, at most


def ms_ssim(recon: Tensor, frame: Tensor) -> Tensor:
    """MS-SSIM of each frame: ∏ over scales of contrast·structure^weight, times luminance at the coarsest.

    A frame with a negative factor scores 0, as in `pytorch_msssim`; its gradient is 0 instead of NaN.

    Args:
        recon, frame: [B, 1, H, W], intensity in [0, 1]; H and W multiples of 16 and at least 176 px. A gradient flows
            into the reconstruction alone.

    Returns:
        [B], at most 1; computed in float32 (float64 for float64 input) under autocast too.

    Source: Wang, Simoncelli and Bovik 2003.

    >>> frame = torch.rand(1, 1, 192, 192)
    >>> round(float(ms_ssim(frame, frame)), 3)
    1.0
    """
    x, y = exact(recon), exact(frame.detach())
    with torch.autocast(x.device.type, enabled=False):
        factors = cast(Tensor, _Similarity.apply(x, y))  # type: ignore[no-untyped-call]
        weights = torch.tensor(SCALE_WEIGHTS, dtype=x.dtype, device=x.device)
        score = (weights @ factors.clamp_min(1e-12).log()).exp()
        return torch.where((factors > 0).all(dim=0), score, 0.0)


class _Similarity(torch.autograd.Function):
    """Of each scale the mean of cs, contrast·structure, at the coarsest times l, luminance; [B, 1, H, W] → [scales, B].

    With μ a map's blur and V = b(map²) − μ²,

        cs = (Vs − Vd + 2 C2) / (Vs + Vd + 2 C2),    l = (μs² − μd² + 2 C1) / (μs² + μd² + 2 C1),

    and the gradient by x is b'(∂/∂μs + ∂/∂μd) + 2s b'(∂/∂Vs) + 2d b'(∂/∂Vd), where b' spreads what b gathers.
    """

    @staticmethod
    def forward(ctx: Any, recon: Tensor, frame: Tensor) -> Tensor:
        x, y = (image[:, 0].permute(1, 2, 0) for image in (recon, frame))
        maps = x.new_empty(4, *x.shape)  # s, d, and room for their squares
        torch.add(x, y, out=maps[0])
        torch.sub(x, y, out=maps[1])
        factors, saved = [], []
        last = len(SCALE_WEIGHTS) - 1
        for scale in range(last + 1):
            if scale:
                maps = _halve(maps)
            torch.mul(maps[:2], maps[:2], out=maps[2:])
            blurred = _blur(maps)
            means, variances = blurred[:2], blurred[2:]
            variances.addcmul_(means, means, value=-1)
            factor, by_maps = _similarity(means, variances, luminance=scale == last)
            factors.append(factor)
            saved += [maps[:2], by_maps]
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(*saved)
        return torch.stack(factors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        saved = ctx.saved_tensors
        gradient: Tensor | None = None
        for scale in reversed(range(len(upstream))):
            (plus, minus), by_maps = saved[2 * scale : 2 * scale + 2]
            own, by_plus, by_minus = _spread(by_maps)
            own.addcmul_(plus, by_plus, value=-1).addcmul_(minus, by_minus, value=-1)
            own.mul_(upstream[scale] * (-4 / by_maps[0, ..., 0].numel()))
            gradient = own if gradient is None else _add_quarters(own, gradient)
        assert gradient is not None
        return gradient.permute(2, 0, 1)[:, None].contiguous(), None


def _similarity(means: Tensor, variances: Tensor, *, luminance: bool) -> tuple[Tensor, Tensor]:
    """The mean of one scale's cs, or cs·l, [B], and a quarter of each pixel's gradient, [3, H, W, B].

    The gradient's maps: −(∂/∂μs + ∂/∂μd), ∂/∂Vs, ∂/∂Vd.
    """
    by_maps = means.new_empty(3, *means.shape[1:])
    lost, by_variances = _contrast(variances, C2, by_maps[1:])
    torch.mul(means[0], by_variances[0], out=by_maps[0]).addcmul_(means[1], by_variances[1])
    if not luminance:
        return 1 - 2 * lost.mean(dim=(0, 1)), by_maps
    darkened, by_squares = _contrast(means * means, C1, torch.empty_like(means))
    structure, brightness = 1 - 2 * lost, 1 - 2 * darkened
    by_maps *= brightness
    by_maps[0].addcmul_(structure, (means * by_squares).sum(dim=0), value=-1)
    return (structure * brightness).mean(dim=(0, 1)), by_maps


def _contrast(of: Tensor, constant: float, derivatives: Tensor) -> tuple[Tensor, Tensor]:
    """Half of what (a − b + 2c) / (a + b + 2c) lacks of 1, and half its derivatives by a and b, written into those."""
    inverse = torch.add(of[0], of[1]).add_(2 * constant).reciprocal_()
    share = of[1] * inverse
    torch.mul(share, inverse, out=derivatives[0])
    torch.sub(derivatives[0], inverse, out=derivatives[1])
    return share, derivatives


def _blur(maps: Tensor) -> Tensor:
    """The Gaussian window, only where it fits: [maps, H, W, B] → [maps, H − 10, W − 10, B]."""
    return _along_rows(_along_columns(maps))


def _spread(maps: Tensor) -> Tensor:
    """The transpose of that: [maps, H, W, B] → [maps, H + 10, W + 10, B]."""
    return _along_columns(_along_rows(maps, spread=True), spread=True)


def _along_rows(maps: Tensor, *, spread: bool = False) -> Tensor:
    return _convolve(maps, _window(maps.shape[-1], maps.dtype, maps.device), (0, WINDOW - 1 if spread else 0))


def _along_columns(maps: Tensor, *, spread: bool = False) -> Tensor:
    """For a window along columns, neighbours in a row are as independent as frames are, and fill the lanes as well."""
    count, _, width, batch = maps.shape
    lanes = math.gcd(width * batch, LANES)
    taps = _window(lanes, maps.dtype, maps.device).transpose(2, 3)
    windowed = _convolve(maps.reshape(count, -1, width * batch // lanes, lanes), taps, (WINDOW - 1 if spread else 0, 0))
    return windowed.reshape(count, -1, width, batch)


def _convolve(maps: Tensor, taps: Tensor, padding: tuple[int, int]) -> Tensor:
    # On NVIDIA's GPUs cuDNN may round to ten bits, and a variance is a small difference of large numbers.
    with torch.backends.cudnn.flags(enabled=False):
        return F.conv2d(maps.permute(0, 3, 1, 2), taps, groups=len(taps), padding=padding).permute(0, 2, 3, 1)


@cache
def _window(channels: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The Gaussian window for each channel, [channels, 1, 1, 11], along rows."""
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    window = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    window /= window.sum()
    return window.to(device, dtype).expand(channels, 1, 1, -1).contiguous()


def _halve(maps: Tensor) -> Tensor:
    """The mean of each two by two pixels of s and d, and room for their squares: [4, H, W, B] → [4, H/2, W/2, B]."""
    rows = maps[:2, ::2] + maps[:2, 1::2]
    halves = maps.new_empty(4, maps.shape[1] // 2, maps.shape[2] // 2, maps.shape[3])
    torch.add(rows[:, :, ::2], rows[:, :, 1::2], out=halves[:2]).mul_(0.25)
    return halves


def _add_quarters(gradient: Tensor, coarse: Tensor) -> Tensor:
    """Add to a map's gradient, [H, W, B], what reached it through its half, [H/2, W/2, B]: a quarter to each pixel."""
    rows = (coarse * 0.25)[:, :, None].expand(-1, -1, 2, -1).reshape(len(coarse), 1, -1)
    gradient.view(len(coarse), 2, -1).add_(rows)
    return gradient


def exact(image: Tensor) -> Tensor:
    """float32, as half precision is too coarse for a loss; float64 stays."""
    return image if image.dtype == torch.float64 else image.float()
