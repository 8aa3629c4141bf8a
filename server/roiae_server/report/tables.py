"""The quality table, by model and site, and the shift table, phase 2 beside phase 1."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from roiae.config import Role
from roiae.page.measures import MEASURES, NT_HEADING, nt_cell
from roiae.wire.contract import SHIFT_ARMS
from roiae_server.run.run_folder import RunFolder

ARM_NAMES = {"phase1": "phase 1", "control": "control", "phase2": "phase 2"}

# Score in `shift.json`, its number there, and its heading.
SHIFT_ROWS = (
    ("mahalanobis", "auroc", "Mahalanobis AUROC"),
    ("mahalanobis", "aupr", "  AUPR"),
    ("mahalanobis", "fpr95", "  FPR95"),
    ("knn", "auroc", "k-NN AUROC"),
    ("knn", "exact_auroc", "  exact, pooled"),
    ("knn", "difference", "  difference"),
    ("provenance", "accuracy", "Provenance accuracy"),
    ("provenance", "max_softmax", "  max-softmax"),
    ("provenance", "entropy", "  entropy, nats"),
    ("provenance", "strength", "  strength C"),
)
ROTATION_COLUMNS = (
    ("mahalanobis", "auroc", "Mahalanobis AUROC"),
    ("knn", "auroc", "k-NN AUROC"),
    ("provenance", "max_softmax", "max-softmax"),
    ("provenance", "entropy", "entropy, nats"),
)

Quality = Mapping[str, Mapping[str, Mapping[str, float]]]  # by arm, site and measure; `quality.json`


def quality_table(quality: Quality, roles: Mapping[str, Role]) -> Table:
    """A row a site and model; the best of each site's models in bold."""
    table = Table(title="Reconstruction quality, mean over n frames", show_edge=False, pad_edge=False)
    for heading in ("site", "model"):
        table.add_column(heading)
    for heading in (*(heading for _, heading, _, _ in MEASURES), NT_HEADING):
        table.add_column(heading.replace(" ", "\n", 1), justify="right")  # narrow: it fits into 80 characters
    for site in sorted(roles, key=lambda name: (roles[name] is Role.HELD_OUT, name)):
        scored = {arm: quality[arm][site] for arm in ARM_NAMES if site in quality.get(arm, {})}
        for index, (arm, scores) in enumerate(scored.items()):
            what = "held out" if roles[site] is Role.HELD_OUT else "validation"
            site_cells = [site, f"{what}, n={scores['frames']:.0f}"]
            cells = (_cell(scored, arm, *measure) for measure in MEASURES)
            table.add_row(
                site_cells[index] if index < len(site_cells) else "",
                ARM_NAMES[arm],
                *cells,
                nt_cell(scores).replace(", ", "\n"),
                end_section=index == len(scored) - 1,
            )
    return table


def weights_line(run: RunFolder) -> str:
    """What phase 2's terms weighed, and where that came from."""
    origin = "set by hand" if run.config.phase2.weights else "from gradient magnitudes"
    return f"phase 2 weights, {origin}: " + ", ".join(f"{term} {weight:.3g}" for term, weight in run.weights.items())


def shift_table(shift: Mapping[str, Any]) -> Table:
    """A row a number of `shift.json`, 95 % intervals beside; why a score was not computed where it was not."""
    left_out = [f"{site} ({reason})" for site, reason in shift["left_out"].items()]
    table = Table(
        title=f"Domain shift: {shift['holdout']} against {', '.join(shift['sources']) or 'no source'}",
        caption=f"left out: {', '.join(left_out)}" if left_out else None,
    )
    for heading in ("", *(ARM_NAMES[arm] for arm in SHIFT_ARMS)):
        table.add_column(heading)
    for heading, cells in shift_rows(shift):
        table.add_row(heading, *cells)
    return table


def shift_rows(shift: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """A heading and a cell a phase for every number that a phase has, and for the first of every score."""
    rows = []
    for score, name, heading in SHIFT_ROWS:
        found = [shift[arm][score] for arm in SHIFT_ARMS]
        first = next(row for row in SHIFT_ROWS if row[0] == score)[1]
        if any(name in of for of in found) or name == first:
            rows.append((heading, [_shift_cell(of, name) for of in found]))
    return rows


def rotation_table(shifts: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row a held-out hospital; phase 1 → phase 2.

    Args:
        shifts: the content of `shift.json` by held-out hospital.
    """
    table = Table(title="Domain shift, every hospital held out in turn: phase 1 → phase 2")
    for heading in ("held out", *(heading for _, _, heading in ROTATION_COLUMNS)):
        table.add_column(heading)
    for holdout, shift in sorted(shifts.items()):
        pairs = (
            [_shift_cell(shift[arm][score], name, brief=True) for arm in SHIFT_ARMS]
            for score, name, _ in ROTATION_COLUMNS
        )
        table.add_row(holdout, *(" → ".join(pair) for pair in pairs))
    return table


def _shift_cell(found: Mapping[str, Any], name: str, brief: bool = False) -> str:
    if "not_computed" in found:
        return "–" if brief else f"not computed: {found['not_computed']}"
    if name not in found:
        return ""
    value = format(found[name], "+.3f" if name == "difference" else "g" if name == "strength" else ".3f")
    interval = found.get("ci", {}).get(name)
    return value if brief or not interval else f"{value} ({interval[0]:.3f} to {interval[1]:.3f})"


def _cell(
    scored: Mapping[str, Mapping[str, float]], arm: str, name: str, heading: str, form: str, more_is_better: bool
) -> str:
    text = format(scored[arm][name], form)
    return f"[bold]{text}[/bold]" if is_best(scored, arm, name, more_is_better) else text


def is_best(scored: Mapping[str, Mapping[str, float]], arm: str, name: str, more_is_better: bool) -> bool:
    """Whether no other arm of one site's has a better measure."""
    values = [scores[name] for scores in scored.values()]
    return scored[arm][name] == (max(values) if more_is_better else min(values))
