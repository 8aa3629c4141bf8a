from pathlib import Path

import pytest


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    """A cache of each test's own: what is in it is what these tests are about."""
    return tmp_path / "cache"
