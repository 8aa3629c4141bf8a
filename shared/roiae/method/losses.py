"""The terms a phase is made of. A phase is a table from a term's name to its weight, and nothing else.

Each term has a version per frame, which `metrics` shares: the metric ROI MAE is the loss `roi_l1`, and ROI Edge-MAE is
`roi_edge`. Terms are computed in float32 also under autocast.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from types import MappingProxyType

import torch
from torch import Tensor

from roiae.method.ms_ssim import exact, ms_ssim

EDGE_FLOOR = 0.01  # least scale of a ROI's edges, intensity per px: a flat ROI does not turn noise into edges
EDGE_EPSILON = 1e-3  # intensity per px, a quarter of a grey level: √ has a slope at zero


class Comparison:
    """A batch of reconstructions beside their frames, whole and as crops, which are cut once for all terms.

    Args:
        recon, frame: [B, 1, H, W], intensity in [0, 1]; kept in float32, or float64.
        roi: [B, 4] boxes x0, y0, x1, y1 in pixels, end exclusive.
    """

    def __init__(self, recon: Tensor, frame: Tensor, roi: Tensor) -> None:
        self.recon, self.frame, self.roi = exact(recon), exact(frame), roi

    @cached_property
    def crops(self) -> tuple[Tensor, Tensor]:
        """Of each, the ROI with one more pixel on every side: [B, h + 2, w + 2], h × w the largest ROI.

        Beyond the frame's border its last pixels repeat. Right of and below a smaller ROI comes what is no part of it.
        """
        _, _, height, width = self.frame.shape
        columns, rows = (_places(self.roi, axis).clamp(0, side - 1) for axis, side in enumerate((width, height)))
        places = rows[:, :, None] * width + columns[:, None, :]
        recon, frame = (image.flatten(1).gather(1, places.flatten(1)) for image in (self.recon, self.frame))
        return recon.view(places.shape), frame.view(places.shape)

    @cached_property
    def inside(self) -> Tensor:
        """[B, h, w] whether a crop's pixel, without those on its sides, belongs to its frame's ROI."""
        _, tallest, widest = self.crops[0].shape
        across, down = (torch.arange(side - 2, device=self.roi.device) for side in (widest, tallest))
        width, height = (self.roi[:, 2:] - self.roi[:, :2]).unbind(dim=1)
        return (down < height[:, None])[:, :, None] & (across < width[:, None])[:, None, :]

    def mean_inside(self, crops: Tensor) -> Tensor:
        """[B], the mean over each frame's ROI of [B, h, w]."""
        return (crops * self.inside).sum(dim=(1, 2)) / self.inside.sum(dim=(1, 2))


Term = Callable[[Comparison], Tensor]


def ms_ssim_loss(of: Comparison) -> Tensor:
    """1 − MS-SSIM of whole frames, mean over the batch; the ROI plays no part."""
    return 1 - ms_ssim(of.recon, of.frame).mean()


def roi_l1(of: Comparison) -> Tensor:
    """Mean absolute intensity error inside each frame's ROI.

    A scalar, the mean over the batch of each frame's own mean: a large ROI weighs no more than a small one.
    """
    return roi_l1_per_frame(of).mean()


def roi_edge(of: Comparison) -> Tensor:
    """Mean absolute error of edge strength inside each frame's ROI, in units of the ROI's strong edges.

    Edge strength is the Sobel gradient's magnitude, |∇x| = √(gx² + gy² + ε²). Both maps are divided by the 99th
    percentile of the target's |∇x| inside the ROI, so that a dim frame's membrane counts as much as a bright one's.
    A scalar, as `roi_l1`.
    """
    return roi_edge_per_frame(of).mean()


TERMS: Mapping[str, Term] = MappingProxyType({"ms_ssim": ms_ssim_loss, "roi_l1": roi_l1, "roi_edge": roi_edge})


def phase_loss(
    weights: Mapping[str, float], recon: Tensor, frame: Tensor, roi: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Σ w[t]·Lt over the phase's terms, and each Lt by name; a term without a weight is not computed.

    Args:
        weights: by term: `ms_ssim` of the whole frame, `roi_l1` and `roi_edge` of the ROI.
        recon, frame: [B, 1, H, W], intensity in [0, 1]; kept in float32, or float64.
        roi: [B, 4] boxes x0, y0, x1, y1 in pixels, end exclusive.

    Source: arXiv 2604.23839.

    >>> frame, roi = torch.rand(2, 1, 192, 192), torch.tensor([[40, 60, 100, 80], [30, 50, 90, 75]])
    >>> loss, terms = phase_loss({"ms_ssim": 1.0, "roi_l1": 0.5}, frame, frame, roi)
    >>> sorted(terms), abs(float(loss)) < 1e-5
    (['ms_ssim', 'roi_l1'], True)
    """
    of = Comparison(recon, frame, roi)
    terms = {name: TERMS[name](of) for name in weights}
    return torch.stack([weight * terms[name] for name, weight in weights.items()]).sum(), terms


def roi_l1_per_frame(of: Comparison) -> Tensor:
    """[B], each frame's mean absolute intensity error inside its ROI."""
    recon, frame = of.crops
    return of.mean_inside((recon - frame)[:, 1:-1, 1:-1].abs())


def roi_edge_per_frame(of: Comparison) -> Tensor:
    """[B], each frame's mean absolute error of edge strength inside its ROI."""
    recon, target = (edge_strength(crops) for crops in of.crops)
    return of.mean_inside((recon - target).abs()) / _percentile_99(target, of.inside).clamp_min(EDGE_FLOOR)


def edge_strength(crops: Tensor) -> Tensor:
    """Sobel gradient magnitude in intensity per px where all eight neighbours exist: [B, H, W] → [B, H − 2, W − 2]."""
    rows = (crops[:, :-2] + 2 * crops[:, 1:-1] + crops[:, 2:]) / 4
    columns = (crops[..., :-2] + 2 * crops[..., 1:-1] + crops[..., 2:]) / 4
    gx = (rows[..., 2:] - rows[..., :-2]) / 2
    gy = (columns[:, 2:] - columns[:, :-2]) / 2
    return (gx * gx + gy * gy + EDGE_EPSILON**2).sqrt()


def _percentile_99(crops: Tensor, inside: Tensor) -> Tensor:
    """[B], of each crop's positive numbers inside, as `torch.quantile`; only the largest hundredth is put in order."""
    from_top = (inside.sum(dim=(1, 2)).to(crops.dtype) - 1) / 100
    places = torch.stack([from_top.floor(), from_top.ceil()], dim=1).long()
    largest = (crops * inside).flatten(1).topk(int(places.max()) + 1).values
    above, below = largest.gather(1, places).unbind(dim=1)
    return above.lerp(below, from_top.frac())


def _places(roi: Tensor, axis: int) -> Tensor:
    """[B, longest side + 2] pixels from the one before each ROI's first on, along x (0) or y (1)."""
    first, end = roi[:, axis], roi[:, axis + 2]
    return first[:, None] + torch.arange(-1, int((end - first).max()) + 1, device=roi.device)
