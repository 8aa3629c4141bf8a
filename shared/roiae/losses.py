"""The terms a phase is made of. A phase is a table from a term's name to its weight, and nothing else.

Each term has a version per frame, which `metrics` shares: the metric ROI MAE is the loss `roi_l1`, and ROI Edge-MAE is
`roi_edge`. Terms are computed in float32 also under autocast.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from roiae.ms_ssim import exact, ms_ssim

EDGE_FLOOR = 0.01  # least scale of a ROI's edges, intensity per px: a flat ROI does not turn noise into edges
EDGE_EPSILON = 1e-3  # intensity per px, a quarter of a grey level: √ has a slope at zero

Term = Callable[[Tensor, Tensor, Tensor], Tensor]


def ms_ssim_loss(recon: Tensor, frame: Tensor, roi: Tensor) -> Tensor:
    """1 − MS-SSIM of whole frames, mean over the batch; the ROI plays no part. Shapes as in `roi_l1`."""
    return 1 - ms_ssim(recon, frame).mean()


def roi_l1(recon: Tensor, frame: Tensor, roi: Tensor) -> Tensor:
    """Mean absolute intensity error inside each frame's ROI.

    Args:
        recon, frame: [B, 1, H, W], intensity in [0, 1].
        roi: [B, 4] boxes x0, y0, x1, y1 in pixels, end exclusive.

    Returns:
        Scalar, the mean over the batch of each frame's own mean: a large ROI weighs no more than a small one.
    """
    return roi_l1_per_frame(recon, frame, roi).mean()


def roi_edge(recon: Tensor, frame: Tensor, roi: Tensor) -> Tensor:
    """Mean absolute error of edge strength inside each frame's ROI, in units of the ROI's strong edges.

    Edge strength is the Sobel gradient's magnitude, |∇x| = √(gx² + gy² + ε²). Both maps are divided by the 99th
    percentile of the target's |∇x| inside the ROI, so that a dim frame's membrane counts as much as a bright one's.
    Shapes as in `roi_l1`.
    """
    return roi_edge_per_frame(recon, frame, roi).mean()


TERMS: Mapping[str, Term] = MappingProxyType({"ms_ssim": ms_ssim_loss, "roi_l1": roi_l1, "roi_edge": roi_edge})


def phase_loss(
    weights: Mapping[str, float], recon: Tensor, frame: Tensor, roi: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Σ w[t]·Lt over the phase's terms, and each Lt by name; a term without a weight is not computed."""
    recon = exact(recon)  # once for all terms
    terms = {name: TERMS[name](recon, frame, roi) for name in weights}
    return torch.stack([weight * terms[name] for name, weight in weights.items()]).sum(), terms


def roi_l1_per_frame(recon: Tensor, frame: Tensor, roi: Tensor) -> Tensor:
    """[B], each frame's mean absolute intensity error inside its ROI."""
    error = (_crops(recon, roi, margin=0) - _crops(frame, roi, margin=0)).abs()
    return _mean_inside(error, _inside(error, roi))


def roi_edge_per_frame(recon: Tensor, frame: Tensor, roi: Tensor) -> Tensor:
    """[B], each frame's mean absolute error of edge strength inside its ROI."""
    target = edge_strength(_crops(frame, roi, margin=1))
    error = (edge_strength(_crops(recon, roi, margin=1)) - target).abs()
    inside = _inside(target, roi)
    return _mean_inside(error, inside) / _percentile_99(target, inside).clamp_min(EDGE_FLOOR)


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


def _crops(images: Tensor, roi: Tensor, *, margin: int) -> Tensor:
    """Each frame's ROI with `margin` more pixels on every side, [B, h, w], the largest ROI's size.

    Beyond the frame's border its last pixels repeat. Right of and below a smaller ROI follows what is no part of it.
    """
    images = exact(images)
    _, _, height, width = images.shape
    columns, rows = (_places(roi, axis, margin).clamp(0, side - 1) for axis, side in enumerate((width, height)))
    places = rows[:, :, None] * width + columns[:, None, :]
    return images.flatten(1).gather(1, places.flatten(1)).view(places.shape)


def _places(roi: Tensor, axis: int, margin: int) -> Tensor:
    """[B, longest side + 2·margin] pixels from each ROI's first one on, along x (0) or y (1)."""
    first, end = roi[:, axis], roi[:, axis + 2]
    longest = int((end - first).max())
    return first[:, None] + torch.arange(-margin, longest + margin, device=roi.device)


def _inside(crops: Tensor, roi: Tensor) -> Tensor:
    """[B, h, w] whether a crop's pixel belongs to its frame's ROI."""
    across, down = (torch.arange(side, device=roi.device) for side in (crops.shape[2], crops.shape[1]))
    width, height = roi[:, 2] - roi[:, 0], roi[:, 3] - roi[:, 1]
    return (down < height[:, None])[:, :, None] & (across < width[:, None])[:, None, :]


def _mean_inside(crops: Tensor, inside: Tensor) -> Tensor:
    return (crops * inside).sum(dim=(1, 2)) / inside.sum(dim=(1, 2))
