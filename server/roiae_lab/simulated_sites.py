"""Simulated hospitals: from folders as a hospital keeps them, or phantom ones drawn once."""

import re
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from roiae.config import Role, RunConfig
from roiae.console.terminal import say
from roiae.data.phantom import SCANNERS, write_hospital
from roiae.data.site_data import default_cache_dir, find_sites
from roiae.errors import ConfigError
from roiae.site.answers import Site, SiteFolder
from roiae.wire.envelope import ID_PATTERN


def find_hospitals(
    data: Path | None, holdout: str | None, states: Path, config: RunConfig, console: Console
) -> list[SiteFolder]:
    """Every hospital with its role, sorted by name.

    Args:
        data: one folder a hospital; None for phantoms.
        holdout: None for the last by name.
        states: each hospital gets a folder of its own here, once it has something to remember.

    Raises:
        DataError: no hospital in the folder.
        ConfigError: no such held-out hospital, or fewer than two besides it.
    """
    cache_dir = default_cache_dir()
    folders = hospital_folders(data, config, console)
    holdout = holdout or max(folders)
    if holdout not in folders:
        raise ConfigError(f"--holdout {holdout}: no such hospital. There are: {', '.join(folders)}.")
    for name in folders:
        if not re.fullmatch(ID_PATTERN, name):
            raise ConfigError(f"{folders[name]}: a site's name has letters, digits and _.:- only. Rename the folder.")
    if len(folders) < 3:
        raise ConfigError(
            f"{len(folders) - 1} source hospital(s) besides the held-out {holdout}; a federation needs at least two. "
            "Give --data a folder with at least three hospitals."
        )
    return [
        SiteFolder(
            name=name,
            role=Role.HELD_OUT if name == holdout else Role.SOURCE,
            folder=folder.resolve(),
            cache_dir=cache_dir,
            image_size=config.model.image_size,
            validation_share=config.data.validation_share,
            max_bad_share=config.data.max_bad_share,
            privacy=config.privacy,
            state=states.resolve() / name,
            device=config.train.device,
            minimum=config.minimum,
        )
        for name, folder in sorted(folders.items())
    ]


def hospital_folders(data: Path | None, config: RunConfig, console: Console) -> dict[str, Path]:
    """Every hospital's folder by name; phantoms where there is no data folder.

    Raises:
        DataError: no hospital in the folder.
    """
    return find_sites(data) if data else _phantoms(config, default_cache_dir(), console)


def _phantoms(config: RunConfig, cache_dir: Path, console: Console) -> dict[str, Path]:
    """Phantom hospitals by name, drawn once and kept beside the cache."""
    scanners = list(SCANNERS)
    width = len(str(config.phantom.hospitals))
    hospitals = {}
    for index in range(config.phantom.hospitals):
        scanner = scanners[index % len(scanners)]
        name = f"phantom-{index + 1:0{width}d}"
        folder = cache_dir / "phantoms" / f"v{version('roiae')}-{config.seed}-{config.phantom.subjects}-{index + 1}"
        if not folder.exists():
            say(f"drawing {config.phantom.subjects} frames of {name} ({scanner.name})", console)
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
                drawn = Path(partial) / "site"
                write_hospital(drawn, scanner, subjects=config.phantom.subjects, seed=config.seed + 1000 * index)
                try:
                    drawn.rename(folder)
                except OSError:
                    if not folder.exists():  # else another process has drawn the very same meanwhile
                        raise
        hospitals[name] = folder
    return hospitals


def open_sites(folders: list[SiteFolder], console: Console) -> list[Site]:
    """Every site with its data, decoded where the cache lacks them; says what was found.

    Raises:
        DataError: a folder, a manifest or a frame cannot be used.
    """
    sites = []
    for folder in folders:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(f"reading {folder.name}", total=None)

            def on_frame(done: int, total: int, bar: Progress = bar, task: Any = task) -> None:
                bar.update(task, completed=done, total=total)

            site = folder.open(on_frame)
        data = site.data
        say(
            f"{site.name}, {site.role}: {len(data.train)} training and {len(data.validation)} validation frames"
            + (f", {len(data.set_aside)} set aside" if data.set_aside else ""),
            console,
        )
        for bad in data.set_aside:
            say(f"  line {bad.line}: {bad.reason}", console)
        sites.append(site)
    return sites
