"""The commands that the documentation shows, typed as they stand, on small phantom hospitals."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TINY

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_readmes_commands_for_own_frames_run(hospitals: Path, tmp_path: Path) -> None:
    (section,) = re.findall(r"## With your own frames.*?```\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
    data = tmp_path / "DIR"
    for letter, site in zip("abc", sorted(hospitals.iterdir()), strict=True):
        shutil.copytree(site, data / f"hospital-{letter}")
    small = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]
    assert len(section.splitlines()) == 2
    for line in section.splitlines():
        command, *arguments = line.split()
        extra = small if "simulate" in arguments else []
        program = Path(sys.executable).with_name(command)
        ended = subprocess.run(
            [program, *arguments, *extra],
            cwd=tmp_path,
            env={"ROIAE_CACHE": str(tmp_path / "cache"), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "runs" / "mine" / "reconstructions.png").exists()
