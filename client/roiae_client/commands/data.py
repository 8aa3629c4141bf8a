"""`roiae-client check` and `import`: a hospital's data before the first round. Nothing is sent anywhere."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roiae.console.terminal import say
from roiae.errors import DataError
from roiae_client.intake.records import Unit

if TYPE_CHECKING:
    from rich.console import Console

    from roiae_client.checks.fitness import Needed
    from roiae_client.checks.survey import Survey
    from roiae_client.folder.site_config import SiteConfig
    from roiae_client.intake.site_folder import Outcome

PAGE = "check.html"
_LISTED = 20
_FIRST = 5


def check(
    folder: Annotated[Path, typer.Argument(help="A folder with manifest.csv and its images, or one with site.yaml.")],
    image_size: Annotated[int, typer.Option(help="The model's side in pixels.")] = 256,
    as_json: Annotated[bool, typer.Option("--json", help="Findings as JSON on stdout, without a name.")] = False,
    html: Annotated[
        Path | None, typer.Option(help="Where the page with frames goes; else check.html beside site.yaml, or here.")
    ] = None,
) -> None:
    """Look for what would stop or ruin a run, frame by frame, and write check.html, which stays in the hospital."""
    from rich.console import Console

    from roiae.config import DataConfig, build_config
    from roiae.data.cache import default_cache_dir
    from roiae_client.checks.page import render
    from roiae_client.checks.survey import survey
    from roiae_client.commands.progress import progress
    from roiae_client.folder.check_record import record_check
    from roiae_client.folder.site_config import SITE_CONFIG, read_site_config

    side = build_config({"model": {"image_size": image_size}}).model.image_size
    own = (folder / SITE_CONFIG).is_file()
    page = html or _default_page(folder, own)
    if page.is_dir() or not page.parent.is_dir():
        what = "is a folder" if page.is_dir() else "its folder does not exist"
        raise DataError(f"{page}: {what}. Give --html the path of a file in a folder that exists.")
    site = read_site_config(folder) if own else None
    settings = site or DataConfig()
    with progress(Console(stderr=True)) as on_step:
        found = survey(
            site.data if site else folder,
            image_size=side,
            cache_dir=default_cache_dir(),
            validation_share=settings.validation_share,
            max_bad_share=settings.max_bad_share,
            needed=_needed(site) if site else None,
            on_step=on_step,
        )
    _write_private(page, render(found))
    if own:
        record_check(folder, found.reading.fingerprint if found.passed and found.reading else None)
    if as_json:
        say(json.dumps({"findings": [finding.as_json() for finding in found.findings]}, indent=1))
    else:
        _print_table(Console(), found)
        say(f"{page}: the frames and what was found. It shows patients and stays here.")
    if not found.passed:
        failed = [f"  {f.code}: {note}" for f in found.findings if f.level == "FAIL" for note in f.notes or f.first]
        raise DataError(f"{folder}: what would stop a run was found.\n" + "\n".join(failed[:_LISTED]))


def import_frames(
    source: Annotated[Path, typer.Argument(help="A folder or a .zip of frames: DICOM, PNG, JPEG, TIFF, BMP.")],
    boxes: Annotated[
        Path,
        typer.Option(
            help="A table, COCO, LabelMe, VOC, CVAT, YOLO, VIA or Label Studio file, or a folder of such or of masks."
        ),
    ],
    to: Annotated[Path, typer.Option(help="The site folder to write; it must not exist.")],
    label: Annotated[str | None, typer.Option(help="Which ROI, where the boxes have several labels.")] = None,
    subjects: Annotated[Path | None, typer.Option(help="A table with the columns image,subject.")] = None,
    max_bad_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the frames that may be set aside.")
    ] = 0.0,
    unit: Annotated[
        Unit | None, typer.Option(help="What the numbers of boxes count, where their file does not say.")
    ] = None,
    origin: Annotated[int | None, typer.Option(min=0, max=1, help="What Pascal VOC boxes are counted from.")] = None,
    odd_masks: Annotated[
        bool, typer.Option(help="Take masks of several parts, or that cover most of a frame.")
    ] = False,
    rescale: Annotated[
        bool, typer.Option(help="Scale boxes that were drawn on a picture of another size and the same shape.")
    ] = False,
    ignore: Annotated[
        list[str] | None, typer.Option(help="An attribute of boxes that does not move them; may be given again.")
    ] = None,
    keep_files: Annotated[
        bool, typer.Option(help="Copy each file with its header, in place of a PNG of its pixels.")
    ] = False,
) -> None:
    """Make a site folder of frames and boxes as annotation tools export them, and say what became of every frame."""
    from rich.console import Console

    from roiae_client.commands.progress import progress
    from roiae_client.intake.boxes import Reading
    from roiae_client.intake.site_folder import import_site
    from roiae_client.intake.taking import Rules

    with progress(Console(stderr=True)) as on_step:
        outcome = import_site(
            source,
            boxes,
            to,
            label=label,
            subjects=subjects,
            max_bad_share=max_bad_share,
            reading=Reading(unit=unit, origin=origin, odd_masks=odd_masks),
            rules=Rules(unit=unit, rescale=rescale, ignore=tuple(ignore or ()), keep_files=keep_files),
            on_frame=lambda done, total: on_step("importing", done, total),
        )
    _print_outcome(outcome)
    roi = f" with ROI {outcome.label}" if outcome.label else ""
    say(f"{to}: {outcome.imported} frames{roi}. Next: roiae-client check {shlex.quote(str(to))}")


def _needed(site: "SiteConfig") -> "Needed":
    """As the site's own limits and privacy settings have it; a held-out site trains nothing."""
    from roiae.config import Role
    from roiae_client.checks.fitness import Needed

    frames, subjects = site.limits.min_frames, site.limits.min_subjects
    held_out = site.role is Role.HELD_OUT
    to_train = (0, 0) if held_out else (frames, subjects)
    return Needed(site.privacy, *to_train, evaluate_frames=frames, evaluate_subjects=subjects, held_out=held_out)


def _print_table(console: "Console", found: "Survey") -> None:
    from rich.table import Table

    from roiae_client.checks.findings import RULES

    table = Table("level", "code", "count", "first", box=None)
    colours = {"PASS": "green", "WARN": "yellow", "FAIL": "red"}
    for finding in found.findings:
        table.add_row(
            f"[{colours[finding.level]}]{finding.level}[/]",
            finding.code,
            str(finding.count or ""),
            "line " + ", ".join(map(str, finding.lines[:_FIRST])) if finding.lines else "",
        )
    console.print(table, highlight=False)
    for finding in (finding for finding in found.findings if finding.count):
        about_the_site = "" if finding.lines else f" ({'; '.join(finding.notes)})"
        say(f"{finding.code}: {RULES[finding.code].means}{about_the_site}. What to do: {finding.remedy}", console)


def _print_outcome(outcome: "Outcome") -> None:
    for note in outcome.notes:
        say(note)
    for name, reason in outcome.set_aside[:_LISTED]:
        say(f"set aside: {name}: {reason}")
    if len(outcome.set_aside) > _LISTED:
        say(f"… and {len(outcome.set_aside) - _LISTED} more; import.csv has them all")


def _default_page(folder: Path, own: bool) -> Path:
    """Beside site.yaml, else here; never in a bare data folder, in which nothing is written."""
    if not own and Path.cwd().is_relative_to(folder.resolve()):
        raise DataError(f"{PAGE} would lie in the data folder. Start the command elsewhere, or give --html FILE.")
    return folder / PAGE if own else Path(PAGE)


def _write_private(page: Path, text: str) -> None:
    """The page for its owner alone, whole or not at all."""
    from roiae.files import write_private

    try:
        write_private(page, text.encode())
    except OSError as error:
        raise DataError(f"{page}: cannot be written ({error.strerror}). Give --html another place.") from error
