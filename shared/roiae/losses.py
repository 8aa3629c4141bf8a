"""The terms a phase is made of. A phase is a table from a term's name to its weight, and nothing else.

Each term has a version per frame, which `metrics` shares: the metric ROI MAE is the loss `roi_l1`, and ROI Edge-MAE is
`roi_edge`. Terms are computed in float32 also under autocast.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from roiae.ms_ssim import ms_ssim

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
    terms = {name: TERMS[name](recon, frame, roi) for name in weights}
    return torch.stack([weight * terms[name] for name, weight in weights.items()]).sum(), terms


def roi_l1_per_frame(recon: Tensor, frame: Tensor, roi: Tensor) -> Tensor:
    """[B], each frame's mean absolute intensity error inside its ROI."""
    pairs = zip(_crops(recon, roi, margin=0), _crops(frame, roi, margin=0), strict=True)
    return torch.stack([(ours - theirs).abs().mean() for ours, theirs in pairs])


def roi_edge_per_frame(recon: Tensor, frame: Tensor, roi: Tensor) -> Tensor:
    """[B], each frame's mean absolute error of edge strength inside its ROI."""
    pairs = zip(_crops(recon, roi, margin=1), _crops(frame, roi, margin=1), strict=True)
    return torch.stack([_edge_error(ours, theirs) for ours, theirs in pairs])


def _edge_error(recon: Tensor, frame: Tensor) -> Tensor:
    target = edge_strength(frame)
    scale = torch.quantile(target.flatten(), 0.99).clamp_min(EDGE_FLOOR)
    return (edge_strength(recon) - target).abs().mean() / scale


def edge_strength(crop: Tensor) -> Tensor:
    """Sobel gradient magnitude in intensity per px where all eight neighbours exist: [H, W] → [H − 2, W − 2]."""
    rows = (crop[:-2] + 2 * crop[1:-1] + crop[2:]) / 4
    columns = (crop[:, :-2] + 2 * crop[:, 1:-1] + crop[:, 2:]) / 4
    gx = (rows[:, 2:] - rows[:, :-2]) / 2
    gy = (columns[2:] - columns[:-2]) / 2
    return (gx * gx + gy * gy + EDGE_EPSILON**2).sqrt()


def _crops(images: Tensor, roi: Tensor, *, margin: int) -> list[Tensor]:
    """Each frame's ROI with `margin` more pixels on every side; beyond the frame's border its last pixels repeat."""
    images = images if images.dtype == torch.float64 else images.float()
    return [
        _crop(image, [int(edge) for edge in box], margin)
        for image, box in zip(images.squeeze(1).unbind(0), roi.tolist(), strict=True)
    ]


def _crop(image: Tensor, box: list[int], margin: int) -> Tensor:
    height, width = image.shape
    left, top, right, bottom = box[0] - margin, box[1] - margin, box[2] + margin, box[3] + margin
    crop = image[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    missing = (max(-left, 0), max(right - width, 0), max(-top, 0), max(bottom - height, 0))
    return F.pad(crop[None], missing, mode="replicate")[0] if any(missing) else crop
