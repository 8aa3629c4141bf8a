"""Event files, read record by record as TensorBoard does: length, its checksum, the event, its checksum."""

import importlib.util
import struct
from pathlib import Path

import pytest

from roiae_server.report.tensorboard import write_events
from tests.conftest import Command
from tests.server.report.conftest import MakeRun, make_run

__all__ = ["make_run"]


def scalars(folder: Path) -> dict[tuple[str, str], list[tuple[int, float]]]:
    """(curve, tag) → (round, value), rounds ascending."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for path in folder.glob("*/*/events.*"):
        content, at, curve = path.read_bytes(), 0, str(path.parent.relative_to(folder))
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + length])
            at += 12 + length + 4
            for value in event.summary.value:
                found.setdefault((curve, value.tag), []).append((event.step, value.simple_value))
    return {key: sorted(points) for key, points in found.items()}


def test_every_curve_of_the_report_and_every_loss_is_written(make_run: MakeRun) -> None:
    pytest.importorskip("tensorboardX")
    run = make_run()
    rounds = run.path / "rounds.jsonl"
    rounds.write_text(rounds.read_text().replace('"metrics": {"v', '"metrics": {"loss": 0.25, "roi_l1": 0.5, "v'))

    found = scalars(write_events(run))

    assert found["phase1/alpha", "psnr"] == [(0, 11.0), (1, 12.0), (2, 20.0)]
    assert found["control/alpha", "loss"] == [(3, 0.25), (4, 0.25)]
    assert found["phase2/beta", "loss/roi_l1"] == [(3, 0.5), (4, 0.5)]
    assert found["phase2/gamma", "nt_px"] == [(4, 0.5)]


def test_a_second_time_replaces_the_first(make_run: MakeRun) -> None:
    pytest.importorskip("tensorboardX")
    run = make_run()

    once, twice = scalars(write_events(run)), scalars(write_events(run))

    assert once == twice
    assert not list(run.path.glob("tmp*"))


def test_a_missing_package_is_named_before_anything_is_trained(
    roiae_server: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorboardX" else find(name))

    code, _, err = roiae_server(["simulate", "--out", str(tmp_path / "run"), "--tensorboard"])

    assert (code, "roiae[tensorboard]" in err) == (7, True)
    assert not (tmp_path / "run").exists()
