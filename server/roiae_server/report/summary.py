"""The front of a report: what the numbers say, in sentences for someone who did not run it."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from roiae.config import Role
from roiae_server.report.changes import better_in_roi
from roiae_server.report.words import listing, percent, reason, signed, why_not

CLEARLY = 0.8  # an AUROC from which a hospital's frames are told from the others' more often than not
FEW_FRAMES = 50  # below this many a quality or a score says little

NO_PROOF = (
    "Such a score says how far the frames lie from what was trained on, not whether a measurement on a reconstruction "
    "is right."
)
MODELS = {"phase1": "the phase-1 model", "control": "the control"}

Facts = Mapping[str, Any]  # `report.json`, but for its summary
Answer = dict[str, Any]  # question, verdict, answer, details


class Trust(StrEnum):
    """What a shift score says of a model at a hospital that trained nothing, the most reassuring first."""

    NO_SIGN = "No sign against it"
    CARE = "With care"
    LOOK_FIRST = "Only after a look at its own frames"

    @property
    def says(self) -> str:
        """Of the hospital's frames."""
        return {
            Trust.NO_SIGN: "cannot be told from those of the sources beyond chance",
            Trust.CARE: "can be told from those of the sources somewhat better than by chance",
            Trust.LOOK_FIRST: "differ clearly from those of the sources",
        }[self]


def trust_by(auroc: float, low: float) -> Trust:
    """
    Args:
        low: the lower end of the AUROC's 95 % interval.
    """
    if low <= 0.5:
        return Trust.NO_SIGN
    return Trust.CARE if auroc < CLEARLY else Trust.LOOK_FIRST


def summarise(facts: Facts) -> list[Answer]:
    """Each question with a verdict of few words, an answer, and what it rests on."""
    found = [_better(facts), _how_much(facts), _trusted(facts)]
    return [_incomplete(facts), *found] if facts["run"]["status"] == "incomplete" else found


def held_out(facts: Facts) -> str:
    """The hospital that trained nothing."""
    return next(str(site) for site, part in facts["participants"].items() if part["role"] == Role.HELD_OUT)


def make_answer(question: str, verdict: str, answer: str, details: Sequence[str] = ()) -> Answer:
    return {"question": question, "verdict": verdict, "answer": answer, "details": list(details)}


def _incomplete(facts: Facts) -> Answer:
    never = [site for site, part in facts["participants"].items() if part["role"] == Role.SOURCE and not part["rounds"]]
    return make_answer(
        "Is it a model of all its hospitals?",
        "No",
        f"{listing(never)} never contributed an update. What follows is about a model of the other hospitals alone.",
    )


def _reference(facts: Facts) -> str:
    """The arm that a fair comparison is with: the control where there is one."""
    return "control" if "control" in facts["changes"] else "phase1"


def _better(facts: Facts) -> Answer:
    against = _reference(facts)
    sites = facts["changes"][against]["sites"]
    ahead = [site for site, changed in sites.items() if better_in_roi(changed)]
    behind = [site for site in sites if site not in ahead]
    longer = ", which is phase 1 continued for as many rounds" if against == "control" else ""
    what = f"phase 2 has a smaller error of intensity and of edges inside the ROI than {MODELS[against]}{longer}"
    if not behind:
        verdict, answer = "Yes", f"At all {len(ahead)} hospitals {what}."
    elif ahead:
        verdict, answer = "In part", f"Not at {listing(behind)}. At {listing(ahead)} {what}."
    else:
        verdict, answer = "No", f"At no hospital {what}."
    details = ["One run with one seed: how much of a difference is chance, this report cannot say."]
    if against == "phase1":
        details.append("The run had no control arm, so longer training alone may explain a part of the difference.")
    return make_answer("Is the model better in the region of interest (ROI)?", verdict, answer, details)


def _how_much(facts: Facts) -> Answer:
    holdout, against = held_out(facts), _reference(facts)
    groups = ((None, "on the sources' validation frames"), (holdout, f"at {holdout}"))
    changed = [(of, where) for site, where in groups if (of := _change(facts, against, site))]
    verdict = "ROI error " + ", ".join(f"{percent(of['roi_mae'])} {where}" for of, where in changed)
    edge = ", ".join(f"{percent(of['roi_edge_mae'])} {where}" for of, where in changed)
    frame = ", ".join(f"{signed(of['psnr'] or 0, '.2f')} dB {where}" for of, where in changed)
    answer = (
        f"Against {MODELS[against]}. The error of edges inside the ROI: {edge}. The PSNR of the whole frame, of which "
        f"more is better: {frame}."
    )
    details = [
        f"Against {MODELS[arm]}, {where} ({_frames(facts, site)} frames): {_changes(of)}."
        for arm in facts["changes"]
        for site, where in groups
        if (of := _change(facts, arm, site))
    ]
    return make_answer("By how much, for whom, and at what cost?", verdict, answer, details)


def _change(facts: Facts, arm: str, site: str | None) -> Mapping[str, float | None] | None:
    """Phase 2 against an arm at a site, or over all validation frames; None where one of them was not scored."""
    found: Mapping[str, float | None] | None
    found = facts["changes"][arm]["sites"].get(site) if site else facts["changes"][arm]["validation"]
    return found


def _frames(facts: Facts, site: str | None) -> int:
    scores = facts["quality"]["phase2"][site] if site else facts["validation"]["phase2"]
    return int(scores["frames"])


def _changes(of: Mapping[str, float | None]) -> str:
    return (
        f"ROI MAE {percent(of['roi_mae'])}, ROI Edge-MAE {percent(of['roi_edge_mae'])}; of the whole frame "
        f"PSNR {signed(of['psnr'] or 0, '.2f')} dB, MS-SSIM {signed(of['ms_ssim'] or 0, '.4f')}"
    )


def _trusted(facts: Facts) -> Answer:
    holdout, shift = held_out(facts), facts["shift"]
    after = shift["phase2"]
    question = f"May it be trusted at {holdout}, which trained nothing?"
    detection = next((after[name] for name in ("mahalanobis", "knn") if "auroc" in after[name]), None)
    if detection is None:
        return make_answer(
            question, "Not known", _why_unknown(after, holdout), [*_left_out(shift), *_error_there(facts)]
        )
    trust = trust_by(detection["auroc"], detection["ci"]["auroc"][0])
    answer = (
        f"To the model, frames of {holdout} {trust.says}: AUROC {_interval(detection, 'auroc')}, where 0.5 is chance "
        f"and 1 is always told apart. {NO_PROOF}"
    )
    details = [*_by_score(shift), *_error_there(facts), *_left_out(shift), *_few(detection)]
    return make_answer(question, trust, answer, details)


def _why_unknown(after: Mapping[str, Any], holdout: str) -> str:
    found = after["mahalanobis"]
    return (
        f"How far {holdout} lies from the sources was not computed: {why_not(found['not_computed'])} "
        f"({found['detail']}). Only the quality there, as measured, speaks for it."
    )


def _error_there(facts: Facts) -> list[str]:
    holdout = held_out(facts)
    there, here = facts["quality"]["phase2"].get(holdout), facts["validation"]["phase2"]
    if not there or not here or not here["roi_mae"]:
        return []
    return [
        f"Phase 2's ROI MAE at {holdout} is {there['roi_mae']:.4f}, {percent(there['roi_mae'] / here['roi_mae'] - 1)} "
        f"against the sources' validation frames ({here['roi_mae']:.4f})."
    ]


def _by_score(shift: Mapping[str, Any]) -> list[str]:
    """Each score after phase 2, beside phase 1's."""
    found = []
    for name, heading in (("mahalanobis", "Mahalanobis"), ("knn", "k-NN")):
        before, after = shift["phase1"][name], shift["phase2"][name]
        if "auroc" in before and "auroc" in after:
            (low, high), (low1, high1) = after["ci"]["auroc"], before["ci"]["auroc"]
            moved = "a difference within the intervals" if low <= high1 and low1 <= high else "apart by more than both"
            text = f"{_interval(after, 'auroc')}, after phase 1 {_interval(before, 'auroc')}: {moved}"
            found.append(f"{heading} AUROC {text}.")
    probe, before = shift["phase2"]["provenance"], shift["phase1"]["provenance"]
    if "entropy" in probe:
        most = probe["histograms"]["entropy"]["high"]
        earlier = f", after phase 1 {before['entropy']:.3f}" if "entropy" in before else ""
        found.append(
            f"A probe that tells the sources apart (right on {100 * probe['accuracy']:.0f} % of their frames) is left "
            f"with {probe['entropy']:.3f} nats of entropy on the unseen hospital's frames{earlier}. At {most:.3f} it "
            "could not say which source they resemble; near 0 it takes them for one source's own."
        )
    return found


def _interval(found: Mapping[str, Any], name: str) -> str:
    low, high = found["ci"][name]
    return f"{found[name]:.3f} (95\N{NO-BREAK SPACE}% interval {low:.3f} to {high:.3f})"


def _left_out(shift: Mapping[str, Any]) -> list[str]:
    return [f"{site} is left out of the scores: {reason(code)}." for site, code in shift["left_out"].items()]


def _few(detection: Mapping[str, Any]) -> list[str]:
    few = min(detection["source_frames"], detection["held_out_frames"])
    return [f"The smaller side has {few} frames: read the intervals, not the figures."] if few < FEW_FRAMES else []
