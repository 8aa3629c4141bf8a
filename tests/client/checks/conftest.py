from collections.abc import Callable
from pathlib import Path

import pytest

from roiae_client.checks.findings import CheckFinding
from roiae_client.checks.survey import survey

Found = Callable[[Path], dict[str, CheckFinding]]


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    """A cache of each test's own: what is in it is what these tests are about."""
    return tmp_path / "cache"


@pytest.fixture
def found(cache_dir: Path) -> Found:
    """The findings of a survey that found something, by code."""

    def look(folder: Path) -> dict[str, CheckFinding]:
        result = survey(folder, image_size=192, cache_dir=cache_dir)
        return {finding.code: finding for finding in result.findings if finding.count}

    return look
