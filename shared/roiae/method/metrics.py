"""Image quality as sums over frames, which add up across hospitals; means do not."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from roiae.errors import Reason, RefusalError
from roiae.method.losses import Comparison, roi_edge_per_frame, roi_l1_per_frame
from roiae.method.ms_ssim import ms_ssim
from roiae.method.nt import find_borders
from roiae.method.rounding import rounded_sum
from roiae.text import shown

MEASURES = ("psnr", "ms_ssim", "roi_mae", "roi_edge_mae")
MAX_PSNR = 100.0  # dB: a perfect frame counts as this instead of ∞


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

    def rounded(self) -> "Quality":
        """The sums as they may leave a site."""
        sums = {name: rounded_sum(name, getattr(self, name), self.frames) for name in MEASURES}
        return Quality(**sums, frames=self.frames)

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
            raise _bad_metrics(f"finite sums {sorted(names)}", sums)
        if sums["frames"] < 0 or sums["frames"] % 1:
            raise _bad_metrics("a whole number of frames", sums)
        return cls(**{name: float(sums[name]) for name in MEASURES}, frames=int(sums["frames"]))


@dataclass(frozen=True)
class NtAgreement:
    """Sums over frames behind how well the NT's thickness, read from a frame, is kept in its reconstruction.

    A frame counts where both show the NT; adding two pools two hospitals. `NtAgreement()` is nothing yet.
    """

    nt_frames: int = 0  # that count
    nt_px: float = 0.0  # |thickness in the frame − thickness in the reconstruction|, px of the stored frame
    nt_mm_frames: int = 0  # that count and whose pixel size is known
    nt_mm: float = 0.0  # as nt_px, of these
    nt_one_sided: int = 0  # that do not count, for only the frame or only the reconstruction shows the NT

    def __add__(self, other: "NtAgreement") -> "NtAgreement":
        return NtAgreement(
            nt_frames=self.nt_frames + other.nt_frames,
            nt_px=self.nt_px + other.nt_px,
            nt_mm_frames=self.nt_mm_frames + other.nt_mm_frames,
            nt_mm=self.nt_mm + other.nt_mm,
            nt_one_sided=self.nt_one_sided + other.nt_one_sided,
        )

    def means(self) -> dict[str, float]:
        """The three numbers of frames, and the mean differences `nt_px` and `nt_mm` where there is a frame to each."""
        counts = {"nt_frames": self.nt_frames, "nt_mm_frames": self.nt_mm_frames, "nt_one_sided": self.nt_one_sided}
        px = {"nt_px": self.nt_px / self.nt_frames} if self.nt_frames else {}
        mm = {"nt_mm": self.nt_mm / self.nt_mm_frames} if self.nt_mm_frames else {}
        return {**counts, **px, **mm}

    @classmethod
    def from_means(cls, means: Mapping[str, float]) -> "NtAgreement":
        """The sums behind `means`, which may stand among others; nothing where there are none."""
        frames, mm_frames = int(means.get("nt_frames", 0)), int(means.get("nt_mm_frames", 0))
        return cls(
            nt_frames=frames,
            nt_px=means.get("nt_px", 0.0) * frames,
            nt_mm_frames=mm_frames,
            nt_mm=means.get("nt_mm", 0.0) * mm_frames,
            nt_one_sided=int(means.get("nt_one_sided", 0)),
        )

    def rounded(self) -> "NtAgreement":
        """The sums as they may leave a site."""
        px, mm = rounded_sum("nt_px", self.nt_px, self.nt_frames), rounded_sum("nt_mm", self.nt_mm, self.nt_mm_frames)
        return replace(self, nt_px=px, nt_mm=mm)

    def to_sums(self) -> dict[str, float]:
        """The sums as they travel."""
        return {name: float(total) for name, total in asdict(self).items()}

    @classmethod
    def from_sums(cls, sums: Mapping[str, float]) -> "NtAgreement":
        """The sums as they arrived.

        Raises:
            RefusalError: a name is missing or unknown, a sum is negative or not finite, or a count is no count.
        """
        if set(sums) != NT_SUMS or not all(0 <= total < math.inf for total in sums.values()):
            raise _bad_metrics(f"finite sums {sorted(NT_SUMS)}", sums)
        counts = {name: int(sums[name]) for name in ("nt_frames", "nt_mm_frames", "nt_one_sided")}
        if any(sums[name] != count for name, count in counts.items()) or counts["nt_mm_frames"] > counts["nt_frames"]:
            raise _bad_metrics("whole numbers of frames", sums)
        return cls(**counts, nt_px=sums["nt_px"], nt_mm=sums["nt_mm"])


NT_SUMS = {field.name for field in fields(NtAgreement)}


@dataclass(frozen=True)
class Evaluation:
    """All that an evaluation tells of a model; add two of them to pool two hospitals. `Evaluation()` is nothing yet."""

    quality: Quality = Quality()
    nt: NtAgreement = NtAgreement()

    def __add__(self, other: "Evaluation") -> "Evaluation":
        return Evaluation(self.quality + other.quality, self.nt + other.nt)

    def means(self) -> dict[str, float]:
        """Those of the quality and of the NT; a ZeroDivisionError where there are no frames."""
        return {**self.quality.means(), **self.nt.means()}

    def to_sums(self) -> dict[str, float]:
        """The sums as they travel."""
        return {**self.quality.to_sums(), **self.nt.to_sums()}

    @classmethod
    def from_sums(cls, sums: Mapping[str, float]) -> "Evaluation":
        """The sums as they arrived.

        Raises:
            RefusalError: as `Quality.from_sums` and `NtAgreement.from_sums`, or the NT counts more frames than there
                are.
        """
        quality = Quality.from_sums({name: total for name, total in sums.items() if name not in NT_SUMS})
        nt = NtAgreement.from_sums({name: total for name, total in sums.items() if name in NT_SUMS})
        if nt.nt_frames + nt.nt_one_sided > quality.frames:
            raise RefusalError(Reason.BAD_METRICS, f"The NT was read in more than the {quality.frames} frames.")
        return cls(quality, nt)


@torch.no_grad()
def quality(recon: Tensor, frame: Tensor, roi: Tensor) -> Quality:
    """Quality of each frame, summed in float64.

    Args:
        recon, frame: [B, 1, H, W], intensity in [0, 1].
        roi: [B, 4] boxes x0, y0, x1, y1 in pixels, end exclusive.

    >>> frame, roi = torch.rand(2, 1, 192, 192), torch.tensor([[40, 60, 100, 80], [30, 50, 90, 75]])
    >>> means = quality(0.5 * frame, frame, roi).means()
    >>> sorted(means)
    ['frames', 'ms_ssim', 'psnr', 'roi_edge_mae', 'roi_mae']
    >>> 0.2 < means["roi_mae"] < 0.3
    True
    """
    of = Comparison(recon, frame, roi)
    return Quality(
        psnr=_total(psnr(recon, frame)),
        ms_ssim=_total(ms_ssim(recon, frame)),
        roi_mae=_total(roi_l1_per_frame(of)),
        roi_edge_mae=_total(roi_edge_per_frame(of)),
        frames=len(frame),
    )


def nt_agreement(
    recon: Tensor, frame: Tensor, roi: Tensor, stored_px: NDArray[np.float64], mm_per_px: NDArray[np.float64]
) -> NtAgreement:
    """As `nt_readings`, summed."""
    return sum(nt_readings(recon, frame, roi, stored_px, mm_per_px), NtAgreement())


def nt_readings(
    recon: Tensor, frame: Tensor, roi: Tensor, stored_px: NDArray[np.float64], mm_per_px: NDArray[np.float64]
) -> Iterator[NtAgreement]:
    """The NT's thickness in each frame beside that in its reconstruction, one frame after the other.

    Args:
        recon, frame, roi: as in `quality`.
        stored_px: [B, 2], width and height of a pixel in pixels of the stored frame.
        mm_per_px: [B, 2], the same in mm; nan where it is not known.
    """
    for ours, theirs, box, px, mm in zip(recon[:, 0], frame[:, 0], roi.tolist(), stored_px, mm_per_px, strict=True):
        x0, y0, x1, y1 = box
        found = [find_borders(image[y0:y1, x0:x1].numpy()) for image in (ours, theirs)]
        borders = [of for of in found if of is not None]
        if len(borders) == 1:
            yield NtAgreement(nt_one_sided=1)
        elif len(borders) == 2:
            apart_px, apart_mm = (abs(borders[0].thickness(unit) - borders[1].thickness(unit)) for unit in (px, mm))
            known = not math.isnan(apart_mm)
            yield NtAgreement(1, apart_px, int(known), apart_mm if known else 0.0)
        else:
            yield NtAgreement()


def psnr(recon: Tensor, frame: Tensor) -> Tensor:
    """[B], −10·log₁₀ of each frame's mean squared error (data range 1), in dB and at most 100."""
    error = (recon.double() - frame.double()).square().mean(dim=(1, 2, 3))
    return (-10 * torch.log10(error)).clamp_max(MAX_PSNR)


def _total(per_frame: Tensor) -> float:
    return per_frame.double().sum().item()


def _bad_metrics(expected: str, sums: Mapping[str, float]) -> RefusalError:
    """The names are whatever the sender chose."""
    received = ", ".join(f"{name} {total}" for name, total in sorted(sums.items()))
    return RefusalError(Reason.BAD_METRICS, f"Expected {expected}, received {shown(received)}.")
