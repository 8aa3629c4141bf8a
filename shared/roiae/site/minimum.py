"""Enough frames of enough subjects behind every number that leaves a site: one of few would speak of a patient."""

from collections.abc import Sequence
from dataclasses import replace

from roiae.config import MinimumConfig
from roiae.errors import Reason, RefusalError
from roiae.method.metrics import NtAgreement


def is_enough(subjects: Sequence[str], minimum: MinimumConfig) -> bool:
    """Whether a number may leave that stands on one frame of each of these, a subject as often as it has frames."""
    return len(subjects) >= minimum.frames and len(set(subjects)) >= minimum.subjects


def check_enough(subjects: Sequence[str], minimum: MinimumConfig, what: str) -> None:
    """
    Args:
        subjects: of each frame; a subject may stand there more than once.
        what: the frames are, for the message: "training", "validation".

    Raises:
        RefusalError: `no-frames` or `few-subjects`.
    """
    if len(subjects) < minimum.frames:
        raise RefusalError(Reason.NO_FRAMES, f"{len(subjects)} {what} frames; at least {minimum.frames} are asked for")
    if (found := len(set(subjects))) < minimum.subjects:
        message = f"{found} subjects behind the {what} frames; at least {minimum.subjects} are asked for"
        raise RefusalError(Reason.FEW_SUBJECTS, message)


def outgoing_nt(readings: Sequence[tuple[NtAgreement, str]], minimum: MinimumConfig) -> NtAgreement:
    """What may leave of the NT's readings: sums stand on the frames that count, which are fewer than all.

    Too few frames in px: nothing leaves, not a count either. Too few in mm: those two numbers are zero. How many frames
    show the NT on one side only is a count over all the frames that were read, and goes with the rest.

    Args:
        readings: of each frame, with its subject.
    """
    if not is_enough([subject for reading, subject in readings if reading.nt_frames], minimum):
        return NtAgreement()
    total = sum((reading for reading, _ in readings), NtAgreement())
    if not is_enough([subject for reading, subject in readings if reading.nt_mm_frames], minimum):
        return replace(total, nt_mm_frames=0, nt_mm=0.0)
    return total
