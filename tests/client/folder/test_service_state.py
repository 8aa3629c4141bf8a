"""What the parts of a running hospital tell each other."""

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest

from roiae_client.folder import service_state
from roiae_client.folder.service_state import CONNECTED_SECONDS, Activity, ServiceState


def test_a_hospital_counts_as_connected_for_a_minute_after_it_was_heard(tmp_path: Path) -> None:
    state = ServiceState(tmp_path)
    assert not state.connected

    state.heard.touch()
    assert state.connected

    long_ago = time.time() - CONNECTED_SECONDS - 1
    os.utime(state.heard, (long_ago, long_ago))
    assert not state.connected


def test_pausing_can_be_taken_back_and_withdrawing_cannot(tmp_path: Path) -> None:
    state = ServiceState(tmp_path)

    state.pause(True)
    assert state.paused
    state.pause(False)
    assert not state.paused
    state.withdraw()
    assert ServiceState(tmp_path).withdrawn


def test_what_is_being_answered_is_noted_and_forgotten_at_a_start(tmp_path: Path) -> None:
    state = ServiceState(tmp_path)
    state.note("train", done=False)
    assert state.activity == Activity("train", False, state.activity.time if state.activity else 0)

    state.forget()
    assert state.activity is None


def test_a_full_disk_keeps_nobody_from_answering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, content: bytes) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(service_state, "write_json", full)

    ServiceState(tmp_path).note("train", done=False)

    assert "No space left on device" in caplog.text
