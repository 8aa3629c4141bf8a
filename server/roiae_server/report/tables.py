"""The quality table: by model and site, phase 2 beside phase 1 and the control arm."""

from collections.abc import Mapping

from rich.table import Table

from roiae.contract import Role

ARM_NAMES = {"phase1": "phase 1", "control": "control", "phase2": "phase 2"}

# Measure, its heading, its format, and whether more is better.
MEASURES = (
    ("psnr", "PSNR dB", ".2f", True),
    ("ms_ssim", "MS-SSIM", ".4f", True),
    ("roi_mae", "ROI MAE", ".4f", False),
    ("roi_edge_mae", "ROI Edge-MAE", ".4f", False),
)

Quality = Mapping[str, Mapping[str, Mapping[str, float]]]  # by arm, site and measure; `quality.json`


def quality_table(quality: Quality, roles: Mapping[str, Role]) -> Table:
    """A row a site and model; the best of each site's models in bold."""
    table = Table(title="Reconstruction quality, mean over n frames")
    for heading in ("site", "model"):
        table.add_column(heading)
    for _, heading, _, _ in MEASURES:
        table.add_column(heading, justify="right")
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
                end_section=index == len(scored) - 1,
            )
    return table


def _cell(
    scored: Mapping[str, Mapping[str, float]], arm: str, name: str, heading: str, form: str, more_is_better: bool
) -> str:
    values = [scores[name] for scores in scored.values()]
    best = max(values) if more_is_better else min(values)
    text = format(scored[arm][name], form)
    return f"[bold]{text}[/bold]" if scored[arm][name] == best else text
