"""Image quality as sums over frames, which add up across hospitals; means do not."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from roiae.errors import Reason, RefusalError
from roiae.losses import roi_edge_per_frame, roi_l1_per_frame
from roiae.ms_ssim import ms_ssim

MEASURES = ("psnr", "ms_ssim", "roi_mae", "roi_edge_mae")
MOST_PSNR = 100.0  # dB: a perfect frame counts as this instead of ∞


@dataclass(frozen=True)
class Quality:
    """Sums over frames behind the mean quality; add two of them to pool two hospitals. `Quality()` is nothing yet."""

    psnr: float = 0.0  # dB, data range 1
    ms_ssim: float = 0.0
    roi_mae: float = 0.0  # as the loss `roi_l1`
    roi_edge_mae: float = 0.0  # as the loss `roi_edge`
    frames: int = 0

    def __add__(self, other: "Quality") -> "Quality":
        return Quality(
            psnr=self.psnr + other.psnr,
            ms_ssim=self.ms_ssim + other.ms_ssim,
            roi_mae=self.roi_mae + other.roi_mae,
            roi_edge_mae=self.roi_edge_mae + other.roi_edge_mae,
            frames=self.frames + other.frames,
        )

    def means(self) -> dict[str, float]:
        """Mean over frames of each measure, and the number of `frames`; a ZeroDivisionError where there are none."""
        sums = self.to_sums()
        return {name: sums[name] / self.frames for name in MEASURES} | {"frames": self.frames}

    def to_sums(self) -> dict[str, float]:
        """The sums as they travel."""
        return {name: float(total) for name, total in asdict(self).items()}

    @classmethod
    def from_sums(cls, sums: Mapping[str, float]) -> "Quality":
        """The sums as they arrived.

        Raises:
            RefusalError: a name is missing or unknown, a sum is not finite, or `frames` is no count.
        """
        names = {*MEASURES, "frames"}
        if set(sums) != names or not all(math.isfinite(total) for total in sums.values()):
            raise RefusalError(Reason.BAD_METRICS, f"Expected finite sums {sorted(names)}, received {dict(sums)}.")
        if sums["frames"] < 0 or sums["frames"] % 1:
            raise RefusalError(Reason.BAD_METRICS, f"Expected a whole number of frames, received {sums['frames']}.")
        return cls(**{name: float(sums[name]) for name in MEASURES}, frames=int(sums["frames"]))


@torch.no_grad()
def quality(recon: Tensor, frame: Tensor, roi: Tensor) -> Quality:
    """Quality of each frame, summed in float64.

    Args:
        recon, frame: [B, 1, H, W], intensity in [0, 1].
        roi: [B, 4] boxes x0, y0, x1, y1 in pixels, end exclusive.
    """
    return Quality(
        psnr=_total(psnr(recon, frame)),
        ms_ssim=_total(ms_ssim(recon, frame)),
        roi_mae=_total(roi_l1_per_frame(recon, frame, roi)),
        roi_edge_mae=_total(roi_edge_per_frame(recon, frame, roi)),
        frames=len(frame),
    )


def psnr(recon: Tensor, frame: Tensor) -> Tensor:
    """[B], −10·log₁₀ of each frame's mean squared error (data range 1), in dB and at most 100."""
    error = (recon.double() - frame.double()).square().mean(dim=(1, 2, 3))
    return (-10 * torch.log10(error)).clamp_max(MOST_PSNR)


def _total(per_frame: Tensor) -> float:
    return per_frame.double().sum().item()
