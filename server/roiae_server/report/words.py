"""Codes and numbers of a run in words that need no manual."""

from collections.abc import Sequence

from roiae.errors import Reason
from roiae.shift.outcome import WhyNot
from roiae_server.report.changes import ROI_ERRORS

REASONS: dict[str, str] = {
    Reason.HELD_OUT: "a held-out hospital gives no update, magnitude or statistic",
    Reason.NOT_ASKED: "a reply that nobody had asked for",
    Reason.BAD_REQUEST: "the request did not fit the contract, or would have singled out a subject",
    Reason.SITE_FAILED: "the hospital's machine failed at the request; its own log says why",
    Reason.NO_REPLY: "no answer before the deadline",
    Reason.OFFLINE: "not connected when the deadline passed",
    Reason.NOT_ALLOWED: "the hospital's own policy does not allow this request",
    Reason.BAD_SIGNATURE: "a reply or a request that the key it should have been signed with did not sign",
    Reason.EXPIRED: "the request's time was over by the hospital's clock, or had not begun",
    Reason.WRONG_VERSION: "a version of roiae that cannot work with this one",
    Reason.ARRAYS_MISMATCH: "arrays that are not the model's",
    Reason.NOT_FINITE: "NaN or infinity in what was sent",
    Reason.TOO_LARGE: "its update was too large",
    Reason.NO_FRAMES: "too few frames",
    Reason.MANY_FRAMES: "more training frames than this run believes of one hospital",
    Reason.FEW_SUBJECTS: "fewer subjects than the hospital asks for",
    Reason.ALREADY_ANSWERED: "the hospital had answered this, or something that would add up with it",
    Reason.BAD_METRICS: "metrics that are missing, unknown, not finite or no whole number of frames",
    Reason.WITHDRAWN: "the hospital has withdrawn",
    Reason.OFF_COURSE: "weights that do not follow from what the hospital has seen of the run",
    Reason.BUDGET_SPENT: "the run has used up what the hospital allows of requests or passes",
    Reason.TASK_TOO_LARGE: "more memory, disk or time than the hospital's machine has for it",
}
DISCARDED = {"discarded": "the step lacked its quorum, and what had come was asked again"}  # a status without a reason

WHY_NOT: dict[str, str] = {
    WhyNot.ONE_SOURCE: "fewer than two sources gave statistics",
    WhyNot.NO_FRAMES: "no frames were scored",
    WhyNot.CONSTANT: "the codes do not differ from frame to frame",
    WhyNot.FEW_FRAMES: "fewer frames than the neighbour that is asked for",
    WhyNot.NOT_CONVERGED: "the fit did not converge",
    WhyNot.DROPPED_OUT: "a source dropped out, and sums that hide each other can be made only of all",
}


def reason(code: str) -> str:
    """Why a reply did not count, or a site was left out, in words; a code of another version as it is."""
    return {**REASONS, **DISCARDED}.get(code, code)


def why_not(code: str) -> str:
    """Why a score was not computed, in words; a code of another version as it is."""
    return WHY_NOT.get(code, code)


def listing(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def signed(value: float, form: str) -> str:
    """With its sign, as papers print it: a true minus, and no sign before what rounds to zero."""
    text = format(value, f"+{form}")
    return text.replace("-", "−") if float(text) else text[1:]


def percent(share: float | None) -> str:
    """A share as a change in per cent, on one line; of nothing, a dash."""
    return "–" if share is None else f"{signed(100 * share, '.1f')}\N{NO-BREAK SPACE}%"


def changed(measure: str, value: float | None, form: str) -> str:
    """A measure's change: of an ROI error as a share, of the others as it is, in the measure's own format."""
    return percent(value) if measure in ROI_ERRORS else signed(value or 0, form)


def size(count: float) -> str:
    """Bytes in the unit that suits them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
