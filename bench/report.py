"""results.json as a table and as a picture."""

from collections.abc import Mapping
from io import BytesIO
from typing import Any

from matplotlib.figure import Figure

Results = Mapping[str, Any]
PHASES = ("phase1", "phase2")
PIECES = ("network", "MS-SSIM", "ROI terms", "optimiser")


def markdown(results: Results) -> str:
    """Tables of medians, with the quartiles in brackets, under a line about the machine."""
    about = results["machine"]
    lines = [
        f"{about['cpu']}, {about['capability']}, {about['threads']} threads, {about['system']}, Python "
        f"{about['python']}, torch {about['torch']}; load {about['load_before']} before, {about['load_after']} after.",
        "",
        *_table(("a step, phase and batch", "plain loop, ms", "ours, ms", "times as fast", "over the network alone")),
    ]
    for batch in ("batch_16", "batch_4"):
        found = results["step"][batch]
        for phase in PHASES:
            cells = [_range(found[f"{phase}_plain_ms"], 0), _range(found[f"{phase}_ms"], 0)]
            cells += [_range(found[f"{phase}_speedup"], 2), _range(found[f"{phase}_over_network"], 2)]
            lines.append(_row(f"{phase.replace('phase', 'phase ')}, {batch.replace('batch_', 'batch of ')}", *cells))
    lines += ["", *_table(("16 frames, ms", "plain", "ours"))]
    found = results["pieces_ms"]
    lines += [_row(piece, _range(found[f"{piece}, plain"], 1), _range(found[piece], 1)) for piece in PIECES]
    lines.append(_row("augmentation", "", _range(found["augmentation"], 1)))
    lines += ["", *_table(("frames of a site", "a batch of 16 from its memory map, ms"))]
    lines += [_row(frames, _range(taken, 1)) for frames, taken in results["frames_ms"].items()]
    lines += ["", *_table(("side, px", "phase-2 step of 4 frames, ms"))]
    lines += [_row(side, _range(taken, 0)) for side, taken in results["image_size_ms"].items()]
    return "\n".join([*lines, "", *_federation(results)])


def _federation(results: Results) -> list[str]:
    federation, job = results["federation"], results["job"]
    by_sites = federation["by_sites"]
    lines = _table(("a round in one process", "figure"))
    lines.append(
        _row(
            "what it adds to the work of three sites of the default size",
            f"{federation['overhead']:.1%}, {federation['overhead_seconds']:.2f} s",
        )
    )
    lines += [_row(f"{n} sites of 8 frames", f"{r['wall']:.1f} s, {_mb(r['memory'])}") for n, r in by_sites.items()]
    lines.append(_row("peak memory with 64 sites over that with 4", f"{federation['memory_64_over_4']:.2f}"))
    title = "three rounds of 2 × 160 frames, batches of 16"
    for name, whose in (("plain", "plain loop"), ("ours", "ours")):
        lines.append(_row(f"{title}: {whose}", f"{job[name]['wall']:.1f} s, {_mb(job[name]['memory'])}"))
    lines.append(_row("what one of these rounds adds", f"{job['overhead']:.1%}, {job['overhead_seconds']:.2f} s"))
    for name, took in results["help_seconds"].items():
        lines.append(_row(f"`{name} --help`", f"{took['wall']:.2f} s, of the processor's {took['cpu']:.2f} s"))
    return lines


def profile_png(results: Results) -> bytes:
    """Where a phase-2 step of sixteen frames goes: the plain loop's pieces over ours."""
    found = results["pieces_ms"]
    figure = Figure(figsize=(8, 2.4), layout="constrained")
    axes = figure.subplots()
    for place, suffix in enumerate(("", ", plain")):
        left = 0.0
        for piece, colour in zip(PIECES, ("#4878a8", "#e49444", "#85b6b2", "#a87c9f"), strict=True):
            width = found[f"{piece}{suffix}"][0]
            axes.barh(place, width, left=left, color=colour, label=piece if place else None)
            left += width
    axes.set_yticks([0, 1], ["roiae", "plain loop"])
    axes.set_xlabel("milliseconds, 16 frames of 256×256")
    axes.legend(ncols=len(PIECES), loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    png = BytesIO()
    figure.savefig(png, dpi=120)
    return png.getvalue()


def _table(head: tuple[str, ...]) -> list[str]:
    return [_row(*head), _row(*["---"] * len(head))]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _range(quartiles: list[float], digits: int) -> str:
    middle, low, high = (f"{value:.{digits}f}" for value in quartiles)
    return f"{middle} ({low} to {high})"


def _mb(size: float) -> str:
    return f"{size / 1e6:.0f} MB"
