"""`report.html` and `report.json`, in the folder of a finished run."""

from pathlib import Path
from typing import Any

from roiae.files import write_atomically
from roiae_server.report.facts import gather
from roiae_server.report.page import real_page, simulation_page
from roiae_server.run.run_folder import RunFolder

HTML, JSON = "report.html", "report.json"


def write_real_report(run: RunFolder) -> Path:
    """Of a run between hospitals: takes no picture, so none gets in.

    Returns:
        Where the page is.

    Raises:
        RunFolderError: a file of the run is missing or damaged.
    """
    facts = gather(run)
    return _write(run, facts, real_page(facts))


def write_simulation_report(run: RunFolder, reconstructions: Path) -> Path:
    """Of a simulation, with the picture of its frames; else as `write_real_report`."""
    facts = gather(run)
    return _write(run, facts, simulation_page(facts, reconstructions.read_bytes()))


def _write(run: RunFolder, facts: dict[str, Any], page: bytes) -> Path:
    run.write_json(JSON, facts)
    write_atomically(run.path / HTML, page)
    return run.path / HTML
