"""`roiae-server reproduce`: begin the experiment or take it up, then show what it says of the paper's claims."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from rich.console import Console

from roiae.config import RunConfig, build_config, differences, merge, read_settings
from roiae.console.terminal import say
from roiae.errors import ConfigError, RunFolderError
from roiae.files import write_atomically, write_json
from roiae.method.hardware import resolve
from roiae.site.answers import Site
from roiae_lab.reproduce.arms import parse_arms
from roiae_lab.reproduce.claims import CLAIMS
from roiae_lab.reproduce.costs import cost_table, hospital_table
from roiae_lab.reproduce.model_run import ModelRun, seconds_a_step
from roiae_lab.reproduce.page import Ran, experiment_page
from roiae_lab.reproduce.protocol import Protocol
from roiae_lab.reproduce.reshaped_sites import check_same_subjects, with_moved_boxes, with_roles
from roiae_lab.reproduce.results import Result, gather
from roiae_lab.reproduce.shared_work import Work
from roiae_lab.reproduce.tables import all_tables
from roiae_lab.reproduce.verdicts import judge
from roiae_lab.simulated_sites import find_hospitals, open_sites
from roiae_server.report.write import HTML
from roiae_server.run.run_folder import CONFIG, LOCK, installed_versions

JSON, MARKDOWN = "reproduce.json", "reproduce.md"


@dataclass(frozen=True)
class Reproduction:
    """What was asked for on the command line."""

    settings: Mapping[str, Any]  # nested; only what was given
    data: Path | None  # one folder a hospital; None for phantoms
    other_roi: Path | None  # the same hospitals' frames with other boxes; None to move the boxes
    out: Path
    seeds: int
    arms: Sequence[str]


def reproduce(asked: Reproduction, console: Console) -> None:
    """Train what is not trained yet, score it, and write and show the tables.

    Raises:
        RoiaeError: the input, the data or a run; every completed step stays.
    """
    arms = parse_arms(asked.arms)
    config = _config(asked)
    protocols = list(_protocols(asked, config, console))
    _begin(asked.out, config, list(dict.fromkeys(protocol.holdout for protocol in protocols)))
    first = protocols[0]
    Work(_trainings(protocols, arms), lambda: seconds_a_step(first.sites[0], first.config), console).finish()
    with FileLock(asked.out / LOCK):  # of the processes that shared the work, one scores while the others wait
        _conclude(asked.out, arms, config, protocols, console)


def _conclude(
    out: Path, arms: Sequence[str], config: RunConfig, protocols: Sequence[Protocol], console: Console
) -> None:
    """Score what is not scored yet, judge, write, show."""
    results: dict[str, list[Result]] = {}
    for protocol in protocols:
        say(f"scoring: seed {protocol.config.seed}, {protocol.holdout} held out", console)
        results.setdefault(protocol.holdout, []).append(gather(protocol, arms))
    judgements = [judge(claim, results) for claim in CLAIMS]
    sections = all_tables(results, judgements)
    tables = [table for of in sections.values() for table in of]
    ran = Ran(
        name=out.resolve().name,
        config=config,
        versions=installed_versions(),
        arms=arms,
        seeds=sorted({protocol.config.seed for protocol in protocols}),
        hospitals=hospital_table([protocol.sites for protocol in protocols]),
        costs=cost_table(_trainings(protocols, arms)),
    )
    content = {
        "arms": arms,
        "seeds": list(ran.seeds),
        "settings": config.model_dump(mode="json"),
        "versions": ran.versions,
        "results": [asdict(result) for of in results.values() for result in of],
        "claims": [judgement.to_json() for judgement in judgements],
    }
    write_json(out / JSON, content)
    write_atomically(out / MARKDOWN, "\n".join(table.to_markdown() for table in tables).encode())
    write_atomically(out / HTML, experiment_page(ran, results, judgements, sections))
    for table in tables:
        console.print(table.to_rich())
    for name in (HTML, JSON, MARKDOWN):
        say(f"written: {out / name}", console)


def _config(asked: Reproduction) -> RunConfig:
    """The settings that the folder was begun with, else those asked for.

    Raises:
        ConfigError: they are impossible, or leave nothing to compare with.
        RunFolderError: the folder was begun with other settings.
    """
    path = asked.out / CONFIG
    if not path.exists():
        config = resolve(build_config(asked.settings))
        if config.phase2.weights or not config.control:
            raise ConfigError(
                "phase2.weights, control: the method calibrates its weights, and is compared with a control. "
                "Leave both settings out."
            )
        return config
    config = build_config(read_settings(path))
    if changed := differences(asked.settings, config):
        raise RunFolderError(
            f"{asked.out}: was begun with another configuration:\n  "
            + "\n  ".join(changed)
            + "\nLeave these settings out to go on with it, or give --out another folder."
        )
    return config


def _begin(out: Path, config: RunConfig, hospitals: Sequence[str]) -> None:
    """
    Raises:
        RunFolderError: the folder holds something else, or cannot be written.
    """
    files = {CONFIG, HTML, JSON, MARKDOWN}
    ours = {LOCK, *hospitals, *files, *(f"{name}.tmp" for name in files)}
    try:
        out.mkdir(parents=True, exist_ok=True)
        if foreign := sorted({entry.name for entry in out.iterdir()} - ours):
            raise RunFolderError(
                f"{out}: holds {foreign[0]}, which is no part of an experiment with {', '.join(hospitals)}. "
                "Give the same --data, or --out a new folder."
            )
        with FileLock(out / LOCK):
            write_atomically(out / CONFIG, config.to_yaml().encode())
    except OSError as error:
        raise RunFolderError(
            f"{out}: cannot be written ({error.strerror}). Give --out a folder that you may write to."
        ) from error


def _seeds(asked: Reproduction, config: RunConfig) -> range:
    return range(config.seed, config.seed + asked.seeds)


def _protocols(asked: Reproduction, config: RunConfig, console: Console) -> Iterator[Protocol]:
    """Seed by seed, so that a first table is there soonest; other seeds draw other phantoms."""
    opened: list[list[Site]] = []
    for seed in _seeds(asked, config):
        seeded = build_config(merge(config.model_dump(mode="json"), {"seed": seed}))
        if not opened or asked.data is None:
            opened = _open(asked, seeded, console)
        for holdout in [site.name for site in opened[0]]:
            sites, others = (with_roles(found, holdout) for found in opened)
            yield Protocol(asked.out, asked.data, holdout, seeded, sites, others)


def _open(asked: Reproduction, config: RunConfig, console: Console) -> list[list[Site]]:
    """The hospitals, and the same with boxes round another ROI."""
    states = asked.out / "sites"
    sites = open_sites(find_hospitals(asked.data, None, states, config, console), console)
    if asked.other_roi is None:
        return [sites, [with_moved_boxes(site) for site in sites]]
    others = open_sites(find_hospitals(asked.other_roi, None, states, config, console), console)
    check_same_subjects(sites, others)
    return [sites, others]


def _trainings(protocols: Sequence[Protocol], arms: Sequence[str]) -> list[ModelRun]:
    """Each once: a hospital alone is the same whoever is held out elsewhere."""
    by_path = {training.path: training for protocol in protocols for training in protocol.trainings(arms)}
    return list(by_path.values())
