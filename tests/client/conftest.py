"""The command in an empty folder; a ledger to write to, and one that was written."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from roiae_client.answering.ledger import Head, Ledger, LedgerReader, Line
from roiae_client.cli import main

Command = Callable[[list[str]], tuple[int, str, str]]


@pytest.fixture
def roiae_client(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    cache_dir: Path,
    tmp_path: Path,
    run_main: Callable[..., int],
) -> Command:
    """Runs the command in an empty folder: exit code, stdout, stderr."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("ROIAE_CACHE", str(cache_dir))

    def run(arguments: list[str]) -> tuple[int, str, str]:
        code = run_main(main, ["roiae-client", *arguments])
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def ledger_path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


@pytest.fixture
def ledger(ledger_path: Path) -> Iterator[Ledger]:
    opened = Ledger(ledger_path)
    yield opened
    opened.close()


def write(ledger: Ledger, request: str = "r1", reason: str = "") -> Head:
    arrays = {"w": np.array([[3.0, 4.0]], np.float32)}
    return ledger.append(run="run", request=request, kind="train", reason=reason, arrays=arrays, metrics=["loss"])


@pytest.fixture
def written(ledger_path: Path) -> list[bytes]:
    """The five lines of a closed ledger of which the coordinator has acknowledged all."""
    ledger = Ledger(ledger_path)
    for n in range(5):
        head = write(ledger, f"r{n}")
    ledger.acknowledge(head)
    ledger.close()
    return ledger_path.read_bytes().splitlines(keepends=True)


def read(ledger_path: Path) -> list[Line]:
    return list(LedgerReader(ledger_path))
