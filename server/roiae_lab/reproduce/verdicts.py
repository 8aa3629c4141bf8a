"""Whether results bear a claim out. What the words mean is in docs/REPRODUCE.md."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from roiae_lab.reproduce.claims import Claim, Part, Relation
from roiae_lab.reproduce.estimates import Spread
from roiae_lab.reproduce.results import Result

Verdict = Literal["held", "held in part", "not held", "not computed"]

_HOLDS: Mapping[Relation, Callable[[float, float], bool]] = {
    "≥": operator.ge,
    "≤": operator.le,
    "<": operator.lt,
    ">": operator.gt,
}


@dataclass(frozen=True)
class Found:
    """What a number came to at one held-out hospital."""

    values: Sequence[float | None]  # a seed each
    spread: Spread | None
    holds: bool | None  # None where it was not computed


@dataclass(frozen=True)
class Judgement:
    """A claim, what each of its numbers came to by held-out hospital, and what follows."""

    claim: Claim
    found: Sequence[Mapping[str, Found]]  # in the order of the claim's parts
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        return {
            "claim": self.claim.text,
            "source": self.claim.source,
            "verdict": self.verdict,
            "parts": [_part_json(part, found) for part, found in zip(self.claim.parts, self.found, strict=True)],
        }


def judge(claim: Claim, results: Mapping[str, Sequence[Result]]) -> Judgement:
    """
    Args:
        results: by held-out hospital, a seed each.
    """
    found = [{holdout: _find(part, of) for holdout, of in results.items()} for part in claim.parts]
    return Judgement(claim, found, verdict([at.holds for by_holdout in found for at in by_holdout.values()]))


def verdict(holds: Sequence[bool | None]) -> Verdict:
    """Of all numbers of a claim at all held-out hospitals."""
    if all(holds):
        return "held"
    if any(holds):
        return "held in part"
    return "not computed" if set(holds) == {None} else "not held"


def _find(part: Part, results: Sequence[Result]) -> Found:
    values = part.figures(results)
    spread = Spread.of(values)
    if spread is None:
        return Found(values, None, None)
    bound = (spread.deviation or 0.0) if part.bound is None else part.bound
    return Found(values, spread, _HOLDS[part.relation](spread.mean, bound))


def _part_json(part: Part, found: Mapping[str, Found]) -> dict[str, Any]:
    return {
        "what": part.what,
        "relation": part.relation,
        "bound": part.bound,
        "paper": part.paper or None,
        "held_out": {
            holdout: {
                "mean": at.spread and at.spread.mean,
                "spread": at.spread and at.spread.deviation,
                "values": list(at.values),
                "holds": at.holds,
            }
            for holdout, at in found.items()
        },
    }
