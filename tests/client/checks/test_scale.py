"""10,000 frames of 480 px: looked over in the memory that docs/DATA.md states; `-s` shows the seconds."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from roiae.data.phantom import SCANNERS, draw_phantom

FRAMES, PICTURES = 10_000, 5
MEMORY = 2**29  # bytes of data that a process may hold beyond what its imports took; a memory map is none

# Runs in a process of its own, for the limit's sake.
LOOK = """
import resource, sys, time
from pathlib import Path
from roiae_client.checks.survey import survey
held = int(next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmData")).split()[1])
resource.setrlimit(resource.RLIMIT_DATA, (held * 1024 + int(sys.argv[3]),) * 2)
for _ in range(2):
    began = time.perf_counter()
    found = survey(Path(sys.argv[1]), image_size=256, cache_dir=Path(sys.argv[2]))
    print(len(found.reading.usable), time.perf_counter() - began)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_thousand_frames_are_looked_over_in_bounded_memory(tmp_path: Path, cache_dir: Path) -> None:
    # A few pictures under many names: nothing is decoded less, and the many that are equal would fill a list of pairs.
    for number in range(PICTURES):
        phantom = draw_phantom(SCANNERS[number % len(SCANNERS)], number, side=480)
        Image.fromarray(phantom.frame).save(tmp_path / f"picture{number}.png")
    site = tmp_path / "site"
    site.mkdir()
    rows = ["image,subject,roi_x0,roi_y0,roi_x1,roi_y1"]
    for number in range(FRAMES):
        (site / f"{number}.png").hardlink_to(tmp_path / f"picture{number % PICTURES}.png")
        rows.append(f"{number}.png,S{number // 4},200,200,{260 + number % 7},{230 + number % 5}")
    (site / "manifest.csv").write_text("\n".join(rows))
    command = [sys.executable, "-c", LOOK, str(site), str(cache_dir), str(MEMORY)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    print(ended.stdout)
    assert [int(line.split()[0]) for line in ended.stdout.splitlines()] == [FRAMES, FRAMES]
