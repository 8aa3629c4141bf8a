from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from roiae.config import build_config
from roiae.data.phantom import write_hospital
from roiae_lab import simulated_sites as hospitals


def test_two_runs_may_draw_the_same_phantoms_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROIAE_CACHE", str(tmp_path / "cache"))
    config = build_config({"phantom": {"subjects": 5}})
    expected = hospitals.hospital_folders(None, config, Console(quiet=True))
    drawn = {name: (folder / "manifest.csv").read_bytes() for name, folder in expected.items()}
    monkeypatch.setenv("ROIAE_CACHE", str(tmp_path / "other"))

    names = iter([folder.name for folder in expected.values()])

    def while_another_does(folder: Path, *scanner: Any, **settings: Any) -> None:
        write_hospital(folder, *scanner, **settings)
        write_hospital(tmp_path / "other" / "phantoms" / next(names), *scanner, **settings)

    monkeypatch.setattr(hospitals, "write_hospital", while_another_does)

    found = hospitals.hospital_folders(None, config, Console(quiet=True))

    assert {name: (folder / "manifest.csv").read_bytes() for name, folder in found.items()} == drawn
