"""The real frames, how often an attack is tried, and where its figures go."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from roiae.data.site_data import SiteData
from roiae.wire.contract import Arrays
from roiae_client.folder.site_config import Limits
from tests.attacks.hospital import SITES, Hospital, open_data
from tests.attacks.page import ATTACKS
from tests.attacks.training import federated
from tests.conftest import REAL_FRAMES
from tests.faults.page import commit


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--attacks-record", type=Path, help="Append each attack's figures to this file, a JSON line each.")


@pytest.fixture(scope="session")
def real_sites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SiteData]:
    if not REAL_FRAMES.is_dir():
        pytest.skip("no real NT frames at ../shared/data/nt beside the checkout")
    cache = tmp_path_factory.mktemp("attack-cache")
    return {of: open_data(of, cache) for of in SITES}


@pytest.fixture(scope="session")
def honest(real_sites: dict[str, SiteData]) -> Arrays:
    """What a run over all hospitals leads to."""
    return federated([real_sites[of].train for of in SITES])


@pytest.fixture
def hospital(real_sites: dict[str, SiteData], tmp_path: Path) -> Iterator[Callable[..., Hospital]]:
    """A new hospital over a site's frames, or over some of them: (site, limits, data)."""
    opened: list[Hospital] = []

    def make(of: str, limits: Limits | None = None, data: SiteData | None = None) -> Hospital:
        opened.append(Hospital(tmp_path / f"hospital-{len(opened)}", data or real_sites[of], of, limits))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Keeps an attack's figures for docs/PRIVACY.md, where a file for them was named."""
    path: Path | None = request.config.getoption("--attacks-record", None)  # unknown where tests/attacks was not named

    def keep(attack: str, **figures: Any) -> None:
        assert attack in ATTACKS, "a row that the page does not know"
        if path:
            with path.open("a") as file:
                file.write(json.dumps({"attack": attack, "commit": commit(), **figures}) + "\n")

    return keep
