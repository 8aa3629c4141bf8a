"""What an experiment had and took: frames by hospital; optimiser steps, bytes and hours by arm."""

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass

from roiae.data.site_data import FrameSet
from roiae.site.answers import Site
from roiae_lab.reproduce.arms import ALONE, POOLED
from roiae_lab.reproduce.model_run import ModelRun, open_run
from roiae_lab.reproduce.tables import NOTHING, Table
from roiae_server.report.facts import transfer
from roiae_server.report.words import duration, size


@dataclass(frozen=True)
class Cost:
    """Of one arm's trainings; add two to have both."""

    trainings: int = 0
    steps: int = 0
    bytes_out: float = 0  # to hospitals, as serialised
    bytes_in: float = 0
    seconds: float = 0.0  # of hospitals' own work

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.trainings + other.trainings,
            self.steps + other.steps,
            self.bytes_out + other.bytes_out,
            self.bytes_in + other.bytes_in,
            self.seconds + other.seconds,
        )


def cost_table(trainings: Iterable[ModelRun]) -> Table:
    """
    Args:
        trainings: each once, and done.

    Raises:
        RunFolderError: a run's folder is missing or damaged.
    """
    by_label: dict[str, Cost] = {}
    for training in trainings:
        by_label[training.label] = by_label.get(training.label, Cost()) + _cost(training)
    rows = [_row(label, of) for label, of in by_label.items()]
    total = _row("all", sum(by_label.values(), Cost()))
    headings = ["arm", "trainings", "optimiser steps", "sent to hospitals", "received from them", "hospitals' own work"]
    return Table("Steps, bytes and hours by arm", headings, [*rows, total])


def _cost(training: ModelRun) -> Cost:
    with closing(open_run(training.path)) as run:
        of = transfer(run.state.sites, run.rounds()).values()
    travels = training.label not in (ALONE, POOLED)
    return Cost(
        trainings=1,
        steps=training.steps,
        bytes_out=sum(site["bytes_sent_to_it"] for site in of) if travels else 0,
        bytes_in=sum(site["bytes_received_from_it"] for site in of) if travels else 0,
        seconds=sum(site["seconds"] for site in of),
    )


def _row(label: str, of: Cost) -> list[str]:
    travelled = [size(count) if count else NOTHING for count in (of.bytes_out, of.bytes_in)]
    return [label, str(of.trainings), f"{of.steps:,}", *travelled, duration(of.seconds)]


def hospital_table(experiments: Iterable[Sequence[Site]]) -> Table:
    """Frames and subjects of each hospital's splits; from the least to the most where seeds draw others.

    Args:
        experiments: the sites of every held-out hospital and seed.
    """
    counts: dict[str, list[list[int]]] = {}
    for site in (site for sites in experiments for site in sites):
        both = [*_counts(site.data.train), *_counts(site.data.validation), len(site.data.set_aside)]
        counts.setdefault(site.name, []).append(both)
    rows = [[name, *(_least_to_most(column) for column in zip(*of, strict=True))] for name, of in counts.items()]
    headings = ["hospital"] + [
        f"{split} {what}" for split in ("training", "validation") for what in ("frames", "subjects")
    ]
    headings.append("frames set aside")
    return Table("Hospitals", headings, rows)


def _counts(frames: FrameSet) -> tuple[int, int]:
    return len(frames), len(set(frames.subjects))


def _least_to_most(column: Sequence[int]) -> str:
    return " to ".join(str(count) for count in sorted({min(column), max(column)}))
