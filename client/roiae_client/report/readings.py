"""What a model makes of a hospital's own frames, one by one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from roiae.config import Role
from roiae.data.site_data import FrameSet, SiteData
from roiae.method.metrics import Evaluation, nt_agreement, quality
from roiae.method.model import Autoencoder
from roiae.method.nt import find_borders
from roiae.method.training import reconstructions

BATCH = 8

Thickness = tuple[float | None, float | None]  # of the NT in a frame and in its reconstruction, px of the stored frame


@dataclass(frozen=True)
class FrameReading:
    """One frame beside its reconstruction."""

    place: int  # in its set
    of: FrameSet
    evaluation: Evaluation
    thickness: Thickness

    @property
    def roi_mae(self) -> float:
        return self.evaluation.quality.roi_mae


def scored_sets(data: SiteData, role: Role | None) -> tuple[FrameSet, ...]:
    """The frames that the model has not been trained on, as the coordinator's report scores them."""
    return (data.validation,) if role is Role.SOURCE else (data.validation, data.train)


def read_frames(
    model: Autoencoder, sets: Sequence[FrameSet], on_frame: Callable[[int, int], None]
) -> list[FrameReading]:
    """
    Args:
        model: on the device that computes.
        on_frame: called after each frame with the frames done and the frames in all.
    """
    readings: list[FrameReading] = []
    for of in sets:
        first = len(readings)
        for part, frames, rois, recon in reconstructions(model, of, BATCH):
            for at in range(len(part)):
                one = slice(at, at + 1)
                frame = _read(part[one], frames[one], rois[one], recon[one])
                readings.append(FrameReading(len(readings) - first, of, *frame))
                on_frame(len(readings), sum(map(len, sets)))
    return readings


def _read(of: FrameSet, frame: Tensor, roi: Tensor, recon: Tensor) -> tuple[Evaluation, Thickness]:
    """Of one frame; shapes as in `quality`."""
    nt = nt_agreement(recon, frame, roi, of.stored_px, of.mm_per_px)
    x0, y0, x1, y1 = roi[0].tolist()
    there, back = (find_borders(image[0, 0, y0:y1, x0:x1].numpy()) for image in (frame, recon))
    unit = (float(of.stored_px[0, 0]), float(of.stored_px[0, 1]))
    thickness = (there.thickness(unit) if there else None, back.thickness(unit) if back else None)
    return Evaluation(quality(recon, frame, roi), nt), thickness
