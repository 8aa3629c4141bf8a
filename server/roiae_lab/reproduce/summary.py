"""The front of an experiment's report: what verdicts and figures say, in sentences for someone who did not run it."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from statistics import mean

from roiae_lab.reproduce.arms import ALONE, HAND_PICKED, METHOD
from roiae_lab.reproduce.claims import AHEAD, CALIBRATED, CHANGES, CHEAP, Form, Part, Source, decimals
from roiae_lab.reproduce.estimates import HELD_OUT, VALIDATION, Spread, changed, measured
from roiae_lab.reproduce.results import Result
from roiae_lab.reproduce.tables import NOTHING, Results, bound_of
from roiae_lab.reproduce.verdicts import Found, Judgement, Verdict
from roiae_server.report.changes import ROI_ERRORS, better_in_roi, change
from roiae_server.report.summary import NO_PROOF, Answer, Trust, make_answer, trust_by
from roiae_server.report.words import listing, percent

NOT_KNOWN = "Not known"
_CONTROL = "the control, which is phase 1 continued for as many rounds"
_VERDICTS: Sequence[Verdict] = ("held", "held in part", "not held", "not computed")


def summarise(results: Results, judgements: Sequence[Judgement]) -> list[Answer]:
    """Each question with a verdict of few words, an answer, and what it rests on."""
    found = {judgement.claim.text: judgement for judgement in judgements}
    return [
        _better(results, found[AHEAD.text], judgements),
        _claims("Does it bear out the paper's claims?", "paper", judgements),
        _claims("Does it reach its own targets?", "target", judgements),
        _federation(results, found[CHEAP.text]),
        _calibration(results, found[CALIBRATED.text]),
        _trusted(results),
    ]


def _better(results: Results, ahead: Judgement, judgements: Sequence[Judgement]) -> Answer:
    what = "Phase 2 has a smaller error of intensity and of edges inside the ROI than"
    behind = _behind(results, "control")
    where = _where(behind, results)
    if not behind and ahead.verdict != "held":
        where += " on average, yet the worst hospital of a seed is not always ahead"
    verdicts = {"held": "Yes", "held in part": "In part", "not held": "No", "not computed": NOT_KNOWN}
    against_phase1 = f"Against the phase-1 model as it stands: better {_where(_behind(results, 'phase1'), results)}."
    details = [against_phase1, *(_gains(holdout, of) for holdout, of in results.items()), _chance(results, judgements)]
    question = "Is the model better in the region of interest (ROI)?"
    return make_answer(question, verdicts[ahead.verdict], f"{what} {_CONTROL}, {where}.", details)


def _behind(results: Results, earlier: str) -> list[tuple[str, str]]:
    """Who is held out, and where, as the mean over seeds, either ROI error is no smaller than the earlier model's."""
    return [
        (holdout, site)
        for holdout, of in results.items()
        for site in sorted(of[0].roles)
        if not better_in_roi(_mean_change(of, earlier, METHOD, site))
    ]


def _mean_change(results: Sequence[Result], earlier: str, later: str, site: str) -> dict[str, float | None]:
    """Of every measure at one hospital; None where a seed lacks it."""
    changes = [change(result.quality[earlier][site], result.quality[later][site]) for result in results]
    spreads = {name: Spread.of([of[name] for of in changes]) for name in CHANGES}
    return {name: spread.mean if spread else None for name, spread in spreads.items()}


def _where(behind: Sequence[tuple[str, str]], results: Results) -> str:
    if len(behind) == sum(len(of[0].roles) for of in results.values()):
        return "at no hospital, whichever is held out"
    exceptions = [
        f"{listing([site for _, site in pairs])} with {holdout} held out"
        for holdout, pairs in groupby(behind, key=lambda pair: pair[0])
    ]
    return f"at every hospital, whichever is held out{', but ' + '; '.join(exceptions) if exceptions else ''}"


def _gains(holdout: str, results: Sequence[Result]) -> str:
    changes = []
    for name in (*ROI_ERRORS, "psnr"):
        heading, form = CHANGES[name]
        what, _, unit = heading.rpartition(" ")
        figures = [changed("control", METHOD, name, frames) for frames in (HELD_OUT, VALIDATION)]
        there, here = (_about(Spread.of([figure(of) for of in results]), form) for figure in figures)
        changes.append(f"{what} {there} and {here} {unit}")
    return f"Against the control at {holdout}, held out, and on the sources' validation frames: {'; '.join(changes)}."


def _about(spread: Spread | None, form: Form) -> str:
    if spread is None:
        return NOTHING
    return form(spread.mean) + ("" if spread.deviation is None else f" ± {form(spread.deviation).lstrip('+')}")


def _chance(results: Results, judgements: Sequence[Judgement]) -> str:
    seeds = len(next(iter(results.values())))
    if seeds == 1:
        return "One seed: how much of a difference is chance, this experiment cannot say."
    pairs = [(part, at) for judgement in judgements for part, by in _parts(judgement) for at in by.values()]
    met = [(part, at) for part, at in pairs if at.holds]
    close = sum(part.bound is not None and _within_spread(part.bound, at.spread) for part, at in met)
    return (
        f"Numbers are means over {seeds} seeds ± their standard deviation. Of the {len(met)} numbers of claims that "
        f"meet their bound, {close} {'does' if close == 1 else 'do'} so by less than that deviation."
    )


def _parts(judgement: Judgement) -> list[tuple[Part, Mapping[str, Found]]]:
    return list(zip(judgement.claim.parts, judgement.found, strict=True))


def _within_spread(bound: float, spread: Spread | None) -> bool:
    return spread is not None and abs(spread.mean - bound) < (spread.deviation or 0.0)


def _claims(question: str, source: Source, judgements: Sequence[Judgement]) -> Answer:
    ours = [judgement for judgement in judgements if judgement.claim.source == source]
    by_verdict = {verdict: [of for of in ours if of.verdict == verdict] for verdict in _VERDICTS}
    counts = [f"{len(by_verdict['held'])} of {len(ours)} held"]
    counts += [f"{len(by_verdict[verdict])} {verdict}" for verdict in _VERDICTS[1:] if by_verdict[verdict]]
    answer = "Each number below goes from the least to the greatest held-out hospital; in brackets what it is to reach."
    details = [_with_numbers(of) for verdict in _VERDICTS for of in by_verdict[verdict]]
    return make_answer(question, ", ".join(counts), answer, details)


def _with_numbers(judgement: Judgement) -> str:
    verdict = f"{judgement.verdict[0].upper()}{judgement.verdict[1:]}"
    if judgement.verdict == "not computed":
        return f"{verdict}, for want of an arm or a score: {judgement.claim.text}."
    numbers = "; ".join(_number(part, by) for part, by in _parts(judgement))
    return f"{verdict}: {judgement.claim.text}. {numbers}."


def _number(part: Part, by_holdout: Mapping[str, Found]) -> str:
    """The means by held-out hospital, from the least to the greatest, and the bound."""
    bound = bound_of(part).replace(" ", "\N{NO-BREAK SPACE}")
    return f"{part.what}: {_range([at.spread for at in by_holdout.values()], part.form)} ({bound})"


def _range(spreads: Sequence[Spread | None], form: Form) -> str:
    means = sorted(spread.mean for spread in spreads if spread)
    ends = list(dict.fromkeys(map(form, (means[0], means[-1])))) if means else [NOTHING]
    return " to ".join(ends)


def _federation(results: Results, cheap: Judgement) -> Answer:
    verdicts = {
        "held": "Little",
        "held in part": "Little, but not by every figure",
        "not held": "More than its target allows",
    }
    answer = (
        "No model was trained on all sources' frames in one place (arm pooled)."
        if cheap.verdict == "not computed"
        else "Against one model trained on all sources' frames in one place, from the least to the greatest held-out "
        "hospital, in brackets what it is to reach: " + "; ".join(_number(part, by) for part, by in _parts(cheap)) + "."
    )
    question = "What does federation cost, and what does it give?"
    return make_answer(question, verdicts.get(cheap.verdict, NOT_KNOWN), answer, _alone(results))


def _alone(results: Results) -> list[str]:
    """What each source has of the federation on its own validation frames, over all experiments that it trained in."""
    by_site: dict[str, list[dict[str, float | None]]] = {}
    for of in results.values():
        for site in sorted(of[0].roles):
            if f"{ALONE}/{site}" in of[0].quality:
                by_site.setdefault(site, []).append(_mean_change(of, f"{ALONE}/{site}", METHOD, site))
    if not by_site:
        return ["No hospital trained by itself (arm alone): what each gains by taking part is not known."]
    said = [f"{site} ROI MAE {_mean_percent(of, 'roi_mae')}" for site, of in sorted(by_site.items())]
    return [f"Against a model of its own, each hospital on its own validation frames: {', '.join(said)}."]


def _mean_percent(changes: Sequence[Mapping[str, float | None]], name: str) -> str:
    known = [of for found in changes if (of := found[name]) is not None]
    return percent(mean(known) if known else None)


def _calibration(results: Results, judged: Judgement) -> Answer:
    verdicts = {"held": "Yes", "held in part": "In part", "not held": "No"}
    ((part, by_holdout),) = _parts(judged)
    figures = ", ".join(f"{holdout} {_about(at.spread, part.form)} %" for holdout, at in by_holdout.items())
    answer = (
        f"Not every one of the {len(HAND_PICKED)} hand-picked weights was trained (arms equal and hand)."
        if judged.verdict == "not computed"
        else f"Its weights, which cost no search, against the best of {len(HAND_PICKED)} that were picked by hand and "
        f"each cost a training: ROI MAE at the held-out hospital {figures}. Less is better; a difference within the "
        "spread over seeds is allowed."
    )
    by_term: dict[str, list[float]] = {}
    for result in (result for of in results.values() for result in of):
        for term, weight in result.weights.get(METHOD, {}).items():
            by_term.setdefault(term, []).append(weight)
    said = [f"{term} {_least_to_greatest(weights, lambda w: format(w, '.3g'))}" for term, weights in by_term.items()]
    details = [f"Calibrated weights: {', '.join(said)}."] if said else []
    return make_answer("Was calibration worth it?", verdicts.get(judged.verdict, NOT_KNOWN), answer, details)


def _least_to_greatest(values: Sequence[float], form: Form) -> str:
    return _range([Spread(value, None) for value in values], form)


def _trusted(results: Results) -> Answer:
    """The least reassuring of the held-out hospitals' verdicts; of each the one that all its seeds bear."""
    question = "May it be trusted at a hospital that trained nothing?"
    by_trust: dict[Trust | None, list[str]] = {}
    for holdout, of in results.items():
        by_trust.setdefault(_trust(of), []).append(holdout)
    known = [trust for trust in Trust if trust in by_trust]
    said = [f"To the model, frames of {listing(by_trust[trust])} {trust.says}." for trust in known]
    if None in by_trust:
        said.append(f"How far {listing(by_trust[None])} lies from the sources was not computed with every seed.")
    if known:
        said.append(f"Below, an AUROC of 0.5 is chance, and 1 is always told apart. {NO_PROOF}")
    verdict = str(known[-1]) if known else NOT_KNOWN
    verdict += ", as far as it is known" if known and None in by_trust else ""
    details = [_there(holdout, of) for holdout, of in results.items()]
    return make_answer(question, verdict, " ".join(said), details)


def _trust(results: Sequence[Result]) -> Trust | None:
    after = [result.shift["phase2"] for result in results]
    if not all("auroc" in of for of in after):
        return None
    return trust_by(mean(of["auroc"] for of in after), max(of.get("auroc_low", of["auroc"]) for of in after))


def _there(holdout: str, results: Sequence[Result]) -> str:
    found = [
        Spread.of([measured(METHOD, "roi_mae", frames)(of) for of in results]) for frames in (HELD_OUT, VALIDATION)
    ]
    there, here = (spread.mean if spread else 0.0 for spread in found)
    share = percent(there / here - 1 if here else None)
    error = f"ROI MAE {there:.4f}, {share} against the sources' validation frames"
    return f"{holdout}: AUROC {_auroc(results)}; {error}."


def _auroc(results: Sequence[Result]) -> str:
    """With the interval of its one seed, or what the intervals of all seeds reach over."""
    after = [result.shift["phase2"] for result in results]
    about = _about(Spread.of([of.get("auroc") for of in after]), decimals(".3f"))
    ends = [(of["auroc_low"], of["auroc_high"]) for of in after if "auroc_low" in of]
    if len(ends) < len(after):
        return about
    what = "interval" if len(ends) == 1 else "intervals"
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    return f"{about} (95\N{NO-BREAK SPACE}% {what} {low:.3f} to {high:.3f})"
