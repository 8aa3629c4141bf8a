from collections.abc import Callable
from pathlib import Path

import pytest

from roiae.data.checks.findings import Finding
from roiae.data.checks.survey import survey

Found = Callable[[Path], dict[str, Finding]]


@pytest.fixture
def found(cache_dir: Path) -> Found:
    """The findings of a survey that found something, by code."""

    def look(folder: Path) -> dict[str, Finding]:
        result = survey(folder, image_size=192, cache_dir=cache_dir)
        return {finding.code: finding for finding in result.findings if finding.count}

    return look
