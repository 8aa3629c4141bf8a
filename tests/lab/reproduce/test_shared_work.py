"""Who trains what, where several processes work on one folder; the trainings are stand-ins."""

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from rich.console import Console

from roiae.config import RunConfig
from roiae.errors import RunFolderError, ServiceError
from roiae_lab.reproduce.model_run import ModelRun
from roiae_lab.reproduce.shared_work import Work
from tests.conftest import Arguments

SERVER = str(Path(sys.executable).with_name("roiae-server"))


@dataclass(frozen=True)
class StandIn(ModelRun):
    done: list[Path] = field(default_factory=list)  # of every training, by whoever did it
    elsewhere: list[Path] = field(default_factory=list)  # that another process is at

    def is_done(self) -> bool:
        if self.path in self.elsewhere:
            raise ServiceError("another process is working on this run")
        return self.path in self.done


@pytest.fixture
def finish() -> Callable[[list[StandIn]], str]:
    """Runs the work to its end; what it printed."""

    def run(trainings: list[StandIn]) -> str:
        printed = io.StringIO()
        Work(trainings, lambda: 0.01, Console(file=printed, width=200)).finish()
        return printed.getvalue()

    return run


@pytest.fixture
def stand_in(config: RunConfig) -> Callable[..., StandIn]:
    done: list[Path] = []
    elsewhere: list[Path] = []

    def make(name: str, after: str | None = None, error: Exception | None = None) -> StandIn:
        def train(console: Console) -> None:
            if error:
                raise error
            done.append(Path(name))

        model_of = Path(after) if after else None
        return StandIn(name, name, Path(name), config, {}, [4], ("phase1",), train, {}, model_of, "", done, elsewhere)

    return make


def test_every_training_is_done_once_in_order(
    finish: Callable[[list[StandIn]], str], stand_in: Callable[..., StandIn]
) -> None:
    trainings = [stand_in("method"), stand_in("equal", after="method"), stand_in("alone")]
    trainings[0].done.append(Path("alone"))

    printed = finish(trainings)

    assert trainings[0].done == [Path("alone"), Path("method"), Path("equal")]
    assert "3 trainings, 1 of them done" in printed
    assert "training 2 of 3: method; 12 optimiser steps left, less than a minute" in printed


def test_what_another_process_is_at_is_left_to_it_and_waited_for(
    finish: Callable[[list[StandIn]], str], stand_in: Callable[..., StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what begins with it waits too; everything else goes on meanwhile."""
    trainings = [stand_in("method"), stand_in("equal", after="method"), stand_in("alone")]
    done, elsewhere = trainings[0].done, trainings[0].elsewhere
    elsewhere.append(Path("method"))
    before_the_other_was_done = []

    def pause(seconds: float) -> None:
        before_the_other_was_done.append([*done])
        if len(before_the_other_was_done) == 2:
            elsewhere.clear()
            done.append(Path("method"))

    monkeypatch.setattr(time, "sleep", pause)
    finish(trainings)

    assert before_the_other_was_done == [[Path("alone")], [Path("alone")]]
    assert done == [Path("alone"), Path("method"), Path("equal")]


def test_a_training_that_another_process_took_first_is_left_to_it(
    finish: Callable[[list[StandIn]], str], stand_in: Callable[..., StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at it and its start."""
    taken = stand_in("method", error=ServiceError("another process is working on this run"))
    monkeypatch.setattr(time, "sleep", lambda seconds: taken.done.append(taken.path))

    finish([taken, stand_in("alone")])

    assert taken.done == [Path("alone"), Path("method")]


def test_a_failed_training_ends_the_command(
    finish: Callable[[list[StandIn]], str], stand_in: Callable[..., StandIn]
) -> None:
    with pytest.raises(RunFolderError, match="disk"):
        finish([stand_in("method", error=RunFolderError("disk full"))])


@pytest.mark.slow
def test_two_processes_share_the_work_and_both_show_the_whole(tiny_run: Arguments, tmp_path: Path) -> None:
    typed = tiny_run("out", model__width=8, phase1__rounds=1)
    command = [SERVER, "reproduce", *typed[1:], "--seeds", "1", "--arms", "equal,pooled"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]

    said = [process.communicate(timeout=300)[0] for process in both]

    assert [process.returncode for process in both] == [0, 0], said
    assert all("training " in out for out in said), "each did some of it"
    lines = [line for out in said for line in out.splitlines() if line.startswith("training")]
    assert len({line.split(";")[0].split(":", 1)[1] for line in lines}) == 9, said
    assert len(json.loads((tmp_path / "out" / "reproduce.json").read_text())["results"]) == 3
