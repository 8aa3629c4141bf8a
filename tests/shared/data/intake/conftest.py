from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Four frames of 40×30 px: a.png, b.png, sub/c.png and sub/d.jpg."""
    folder = tmp_path / "frames"
    (folder / "sub").mkdir(parents=True)
    noise = np.random.default_rng(0)
    for name in ("a.png", "b.png", "sub/c.png", "sub/d.jpg"):
        Image.fromarray(noise.integers(0, 256, (30, 40), dtype=np.uint8)).save(folder / name)
    return folder
