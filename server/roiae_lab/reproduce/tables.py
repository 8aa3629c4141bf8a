"""Results as tables: Markdown for a page, the same cells for a terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import rich.table
from rich.table import Column

from roiae.page.measures import MEASURES
from roiae.wire.contract import SHIFT_ARMS
from roiae_lab.reproduce.arms import ALONE, METHOD, OTHER_ROI, POOLED
from roiae_lab.reproduce.claims import Form, Part, Source, decimals
from roiae_lab.reproduce.estimates import HELD_OUT, VALIDATION, Figure, Spread, measured, shifted
from roiae_lab.reproduce.results import Result
from roiae_lab.reproduce.verdicts import Judgement

Results = Mapping[str, Sequence[Result]]  # by held-out hospital, a seed each

SHIFT_ROWS = (
    ("auroc", "Mahalanobis AUROC", "up to 0.9956"),
    ("max_softmax", "provenance max-softmax", "0.556 → 0.541"),
    ("entropy", "provenance entropy, nats", "0.684 → 0.688"),
)
NT_COLUMNS = (("nt_px", "NT px", ".2f"), ("nt_frames", "NT frames", ".0f"))  # mean difference, and of how many frames
NOTHING = "–"


@dataclass(frozen=True)
class Table:
    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: tuple[int, int | None] = (1, None)  # the columns that hold them: from the first to before the second

    def to_markdown(self) -> str:
        lines = [self.headings, ["---"] * len(self.headings), *self.rows]
        return f"## {self.title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def to_rich(self) -> rich.table.Table:
        columns = [Column(heading, overflow="fold") for heading in self.headings]
        table = rich.table.Table(*columns, title=self.title)
        for row in self.rows:
            table.add_row(*row)
        return table


def all_tables(results: Results, judgements: Sequence[Judgement]) -> dict[str, list[Table]]:
    """The paper's rows and the targets, the shift, every arm, and what each hospital has of the federation."""
    with_alone = any(model.startswith(ALONE) for of in results.values() for model in of[0].quality)
    return {
        "claims": [
            _claim_table("The paper's claims", "paper", results, judgements),
            _claim_table("Targets", "target", results, judgements),
        ],
        "shift": [_shift_table(results)],
        "arms": [
            _arm_table(holdout, of, frames) for holdout, of in results.items() for frames in (VALIDATION, HELD_OUT)
        ],
        "hospitals": [_hospital_table(results)] if with_alone else [],
    }


def cell(spread: Spread | None, form: Form) -> str:
    """`mean ± deviation`; of one seed a dash in the deviation's place, and of nothing a dash."""
    if spread is None:
        return NOTHING
    deviation = NOTHING if spread.deviation is None else form(spread.deviation).lstrip("+")
    return f"{form(spread.mean)} ± {deviation}"


def _claim_table(title: str, source: Source, results: Results, judgements: Sequence[Judgement]) -> Table:
    """A row a number; the claim's verdict beside its first."""
    rows = []
    for judgement in judgements:
        if judgement.claim.source == source:
            for index, (part, found) in enumerate(zip(judgement.claim.parts, judgement.found, strict=True)):
                cells = [cell(found[holdout].spread, part.form) for holdout in results]
                rows.append([part.what, part.paper or bound_of(part), *cells, "" if index else judgement.verdict])
    return Table(f"{title}, by held-out hospital", ["", source, *results, "verdict"], rows, (2, -1))


def bound_of(part: Part) -> str:
    return f"{part.relation} {'spread over seeds' if part.bound is None else part.form(part.bound)}"


def _shift_table(results: Results) -> Table:
    rows = []
    for name, heading, paper in SHIFT_ROWS:
        cells = [
            " → ".join(cell(_over_seeds(shifted(name, arm), of), decimals(".4f")) for arm in SHIFT_ARMS)
            for of in results.values()
        ]
        rows.append([heading, paper, *cells])
    headings = ["", "paper", *results]
    return Table(
        "Domain shift, phase 1 → phase 2, by held-out hospital", headings, rows, (len(headings), None)
    )  # pairs


def _arm_table(holdout: str, results: Sequence[Result], frames: str) -> Table:
    """A row a model; those of the other ROI, whose boxes are others, stand last and compare with each other alone."""
    first = results[0]
    columns = [*((name, heading, form) for name, heading, form, _ in MEASURES), *NT_COLUMNS]
    rows = [
        [
            model,
            *(cell(_over_seeds(measured(model, name, frames), results), decimals(form)) for name, _, form in columns),
            str(first.steps[model]),
        ]
        for model in sorted(first.quality, key=lambda model: model.startswith(OTHER_ROI))
    ]
    scored = first.quality[METHOD]
    count = sum(of["frames"] for site, of in scored.items() if (site == holdout) == (frames == HELD_OUT))
    title = f"{holdout} held out: {count:.0f} {'validation' if frames == VALIDATION else 'held-out'} frames"
    return Table(title, ["model", *(heading for _, heading, _ in columns), "optimiser steps"], rows)


def _hospital_table(results: Results) -> Table:
    """Each source's own validation frames, by a model of its own, the federation's and the pooled one's."""
    rows = []
    for holdout, of in results.items():
        for site in sorted(set(of[0].roles) - {holdout}):
            models = {"alone": f"{ALONE}/{site}", "federated": METHOD, "pooled": POOLED}
            for heading, model in models.items():
                if model in of[0].quality:
                    figures = (_at(site, model, name) for name, _, _, _ in MEASURES)
                    cells = [
                        cell(_over_seeds(figure, of), decimals(form))
                        for figure, (_, _, form, _) in zip(figures, MEASURES, strict=True)
                    ]
                    rows.append([site, holdout, heading, *cells])
    headings = ["hospital", "held out", "model", *(heading for _, heading, _, _ in MEASURES)]
    return Table("What federation gives each hospital, on its own validation frames", headings, rows, (3, None))


def _at(site: str, model: str, measure: str) -> Figure:
    return lambda result: result.quality[model][site][measure]


def _over_seeds(figure: Figure, results: Sequence[Result]) -> Spread | None:
    return Spread.of([figure(result) for result in results])
