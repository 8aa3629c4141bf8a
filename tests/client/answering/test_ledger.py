"""A ledger that was altered, cut or reordered says where; one that a crash tore goes on."""

import errno
import json
import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from roiae.errors import LedgerError, ServiceError, SetupError
from roiae.wire.envelope import NO_LINES
from roiae_client.answering.ledger import UNFINISHED, KeySeen, Ledger, LedgerReader
from tests.client.conftest import read, write


def test_a_line_says_what_left_and_how_much(ledger: Ledger, ledger_path: Path) -> None:
    write(ledger)

    (line,) = read(ledger_path)
    assert line.time.endswith("+00:00")
    assert (line.n, line.run, line.request, line.kind, line.reason) == (1, "run", "r1", "train", "")
    assert line.arrays == [{"name": "w", "shape": [1, 2], "dtype": "float32", "norm": 5.0}]
    assert (line.metrics, line.bytes, line.previous) == (["loss"], 16, NO_LINES)


def test_a_line_holds_these_fields_and_no_others(ledger: Ledger, ledger_path: Path) -> None:
    write(ledger)

    fields = list(json.loads(ledger_path.read_text()))
    now_and_then = {"set_aside", "request_key", "claimed", "turned_away"}
    assert fields == [name for name in asdict(read(ledger_path)[0]) if name not in now_and_then]


def test_a_line_is_on_the_disk_before_append_returns(
    ledger: Ledger, ledger_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(ledger_path.read_bytes()))

    head = write(ledger)

    assert head.hash.encode() in synced[-1]


def test_the_documented_check_needs_the_standard_library_alone(ledger_path: Path, written: list[bytes]) -> None:
    page = (Path(__file__).parents[3] / "docs" / "LEDGER.md").read_text()
    (check,) = re.findall(r"```python\n(.*?)```", page, flags=re.S)

    def run() -> tuple[str, str]:
        command = [sys.executable, "-I", "-S", "-c", check]
        ended = subprocess.run(command, cwd=ledger_path.parent, capture_output=True, text=True, check=False)
        return ended.stdout, ended.stderr

    assert run() == (f"5 {LedgerReader(ledger_path).acknowledged.hash}\n", "")
    ledger_path.write_bytes(b"".join(written).replace(b"r2", b"r9"))
    assert "line 3 was altered" in run()[1]


def test_a_reopened_ledger_goes_on_and_knows_what_it_answered(ledger_path: Path, written: list[bytes]) -> None:
    ledger = Ledger(ledger_path)

    assert (ledger.answered("r3"), ledger.answered("r5")) == (True, False)
    assert write(ledger, "r5").lines == 6
    ledger.close()
    assert [line.n for line in read(ledger_path)] == [1, 2, 3, 4, 5, 6]


def test_a_reopened_ledger_knows_the_latest_request_key(ledger_path: Path) -> None:
    ledger = Ledger(ledger_path)
    assert ledger.request_key is None
    for number in (2, 5):
        ledger.accept_request_key(KeySeen(number, f"SHA256:{number}"))
    ledger.close()

    reopened = Ledger(ledger_path)
    assert reopened.request_key == (5, "SHA256:5")
    reopened.close()
    assert [(line.kind, line.request_key) for line in read(ledger_path)] == [
        ("request-key", (2, "SHA256:2")),
        ("request-key", (5, "SHA256:5")),
    ]


@pytest.mark.parametrize("kept", [1, 40, -1])
def test_a_line_that_a_crash_tore_is_set_aside_in_a_line_of_its_own(ledger_path: Path, kept: int) -> None:
    ledger = Ledger(ledger_path)
    write(ledger, "r1")
    write(ledger, "r2")
    ledger.close()
    whole, torn = ledger_path.read_bytes().splitlines(keepends=True)
    ledger_path.write_bytes(whole + torn[:kept])

    reopened = Ledger(ledger_path)

    assert not reopened.answered("r2")
    write(reopened, "r2")
    reopened.close()
    lines = read(ledger_path)
    assert [line.kind for line in lines] == ["train", UNFINISHED, "train"]
    assert (lines[1].set_aside, lines[1].bytes) == (torn[:kept].decode(), 0)


def test_zeros_that_a_power_cut_left_are_set_aside(ledger_path: Path, written: list[bytes]) -> None:
    ledger_path.write_bytes(b"".join(written) + bytes(100))

    Ledger(ledger_path).close()

    assert read(ledger_path)[-1].set_aside == "\0" * 100


def test_a_reader_leaves_out_the_line_that_is_being_written(ledger_path: Path, written: list[bytes]) -> None:
    ledger_path.write_bytes(b"".join(written) + b'{"n":6')
    reader = LedgerReader(ledger_path)

    assert len(list(reader)) == 5
    assert reader.unfinished == b'{"n":6'


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_a_full_disk_raises_and_the_next_line_follows_the_last_good_one(
    ledger_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    head = write(ledger, "r1")
    pwrite = os.pwrite
    with monkeypatch.context() as patched:
        parts = iter([2000])  # more than the next line will have

        def fill(file: int, raw: bytes = b"", offset: int = 0) -> int:
            for part in parts if call == "pwrite" else ():
                return pwrite(file, raw[:part], offset)
            raise OSError(errno.ENOSPC, "No space left on device")

        patched.setattr(os, call, fill)
        with pytest.raises(OSError, match="No space left"):
            ledger.append(run="run", request="r2", kind="train", reason="", arrays={}, metrics=["loss"] * 500)
    assert (ledger.head, ledger.answered("r2")) == (head, False)
    assert ledger_path.stat().st_size > 0

    write(ledger, "r3")
    assert [line.request for line in read(ledger_path)] == ["r1", "r3"]


@pytest.mark.parametrize("harm", [Path.unlink, lambda file: os.truncate(file, 10), lambda file: file.rename("away")])
def test_a_file_that_is_moved_or_cut_while_in_use_takes_no_more_lines(
    ledger_path: Path, ledger: Ledger, harm: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ledger_path.parent)
    write(ledger)
    harm(ledger_path)

    with pytest.raises(LedgerError, match="moved or cut while in use"):
        write(ledger, "r2")


def open_elsewhere(ledger_path: Path) -> bool:
    try:
        Ledger(ledger_path)
    except ServiceError:
        return False
    return True


def test_one_process_at_a_time_has_it_open(ledger_path: Path, ledger: Ledger) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert not pool.apply(open_elsewhere, (ledger_path,))
    with pytest.raises(ServiceError, match="another process"):
        Ledger(ledger_path)
    write(ledger)
    assert len(read(ledger_path)) == 1


def test_a_ledger_that_does_not_open_is_not_held(ledger_path: Path, written: list[bytes]) -> None:
    ledger_path.write_bytes(b"".join(written[:4]))
    with pytest.raises(LedgerError):
        Ledger(ledger_path)

    ledger_path.write_bytes(b"".join(written))
    Ledger(ledger_path).close()


def test_a_ledger_that_cannot_be_written_is_told(ledger_path: Path) -> None:
    ledger_path.mkdir()

    with pytest.raises(SetupError, match="Is a directory"):
        Ledger(ledger_path)


@pytest.mark.slow
def test_a_hundred_thousand_lines_open_in_seconds(ledger_path: Path) -> None:
    from roiae.config import ModelConfig
    from roiae.method.model import Autoencoder
    from roiae.method.training import arrays_of

    arrays = arrays_of(Autoencoder(**ModelConfig().model_dump()))
    ledger = Ledger(ledger_path)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda file: None)
        patched.setattr("roiae_client.answering.ledger._described", _once(arrays))
        for n in range(100_000):
            ledger.append(run="run", request=f"{n:032x}", kind="train", reason="", arrays=arrays, metrics=["loss"] * 9)
    ledger.close()

    began = time.perf_counter()
    Ledger(ledger_path).close()
    took = time.perf_counter() - began
    assert took < 30, f"{ledger_path.stat().st_size / 1e6:.0f} MB"


def _once(arrays: dict[str, np.ndarray]) -> Callable[..., dict[str, object]]:
    """The arrays described from memory, so that the test spends its time on lines."""
    from roiae_client.answering.ledger import _described

    known = {name: _described(name, array) for name, array in arrays.items()}
    return lambda name, array: known[name]
