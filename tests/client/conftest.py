"""A ledger to write to, and one that was written."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from roiae_client.ledger import Head, Ledger, LedgerReader, Line


@pytest.fixture
def ledger_path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


@pytest.fixture
def ledger(ledger_path: Path) -> Iterator[Ledger]:
    opened = Ledger(ledger_path)
    yield opened
    opened.close()


def write(ledger: Ledger, request: str = "r1") -> Head:
    arrays = {"w": np.array([[3.0, 4.0]], np.float32)}
    return ledger.append(run="run", request=request, kind="train", reason="", arrays=arrays, metrics=["loss"])


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
