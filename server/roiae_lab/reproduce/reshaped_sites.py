"""Hospitals in other shapes: all sources' frames as one site, and the same frames with boxes round something else."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from roiae.config import Role
from roiae.data.reading import digest
from roiae.data.site_data import FrameSet, SiteData
from roiae.errors import ConfigError
from roiae.site.answers import Site
from roiae_lab.reproduce.arms import POOLED

MOVE = 4  # a box moves by this part of the frame's height


def with_roles(sites: Sequence[Site], holdout: str) -> list[Site]:
    """The sites, one of them held out."""
    return [replace(site, role=Role.HELD_OUT if site.name == holdout else Role.SOURCE) for site in sites]


def pooled_fingerprint(sources: Sequence[Site]) -> str:
    return digest([[site.name, site.data.fingerprint] for site in sources])


def pooled_site(sources: Sequence[Site]) -> Site:
    """All sources' frames, split as they are, at one site; in memory."""
    data = SiteData(
        train=_joined([site.data.train for site in sources]),
        validation=_joined([site.data.validation for site in sources]),
        set_aside=(),
        fingerprint=pooled_fingerprint(sources),
    )
    return replace(sources[0], name=POOLED, data=data)


def with_moved_boxes(site: Site) -> Site:
    """The same frames, each box moved up or down to where there is more room, its size kept."""
    data = site.data
    moved = SiteData(
        train=_moved(data.train),
        validation=_moved(data.validation),
        set_aside=data.set_aside,
        fingerprint=digest([data.fingerprint, f"moved by 1/{MOVE}"]),
    )
    return replace(site, data=moved)


def check_same_subjects(sites: Sequence[Site], others: Sequence[Site]) -> None:
    """
    Raises:
        ConfigError: the other folder has other hospitals, or a subject on the other side of the split.
    """
    names, found = [site.name for site in sites], [site.name for site in others]
    if names != found:
        raise ConfigError(f"--other-roi: has {', '.join(found)}; expected the hospitals of --data, {', '.join(names)}.")
    for site, other in zip(sites, others, strict=True):
        crossed = {*other.data.validation.subjects} & {*site.data.train.subjects}
        if crossed:
            raise ConfigError(
                f"--other-roi: {len(crossed)} subject(s) of {site.name} validate there and train in --data. Give both "
                "manifests the same column 'split', or none."
            )


def moved_boxes(boxes: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """Boxes up or down by a part of the frame, or as far as they stay inside.

    Args:
        boxes: [N, 4], x0, y0, x1, y1 in pixels, end exclusive.
        side: height of the frames, in pixels.
    """
    above, below = boxes[:, 1], side - boxes[:, 3]
    by = np.where(below >= above, np.minimum(below, side // MOVE), -np.minimum(above, side // MOVE))
    moved: NDArray[np.int64] = boxes + by[:, None] * np.array([0, 1, 0, 1])
    return moved


def _moved(frames: FrameSet) -> FrameSet:
    return replace(frames, rois=moved_boxes(frames.rois, frames.frames.shape[1]))


def _joined(parts: Sequence[FrameSet]) -> FrameSet:
    return FrameSet(
        frames=np.concatenate([part.frames for part in parts]),
        rois=np.concatenate([part.rois for part in parts]),
        subjects=tuple(subject for part in parts for subject in part.subjects),
        mm_per_px=np.concatenate([part.mm_per_px for part in parts]),
        stored_px=np.concatenate([part.stored_px for part in parts]),
    )
