"""The data of the fault runs, and the weights that the same run gives without a fault."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.page import FAULTS, NUMBERS, commit
from tests.faults.processes import RealFederation, running, simulate, write_data


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults-record", type=Path, help="Append each fault's figures to this file, a JSON line each.")


@pytest.fixture(scope="session")
def fault_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fault-data")
    write_data(folder)
    return folder


@pytest.fixture(scope="session")
def fault_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fault-cache")


@pytest.fixture(autouse=True)
def _cache(fault_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROIAE_CACHE", str(fault_cache))


@pytest.fixture(scope="session")
def unfaulted(fault_data: Path, fault_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The weights of the same run on one machine."""
    return simulate(tmp_path_factory.mktemp("unfaulted") / "run", fault_data, fault_cache)


@pytest.fixture
def federation(fault_data: Path, tmp_path: Path) -> Iterator[RealFederation]:
    """Four enrolled hospitals and their coordinator, all started; killed at the end, whatever happened."""
    with running(RealFederation(tmp_path, fault_data)) as started:
        yield started


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Keeps a fault's figures for docs/RELIABILITY.md, where a file for them was named."""
    path: Path | None = request.config.getoption("--faults-record", None)  # unknown where tests/faults was not named

    def keep(fault: str, **figures: Any) -> None:
        assert fault in (*FAULTS, *NUMBERS), "a row that the page does not know"
        if path:
            with path.open("a") as file:
                file.write(json.dumps({"fault": fault, "commit": commit(), **figures}) + "\n")

    return keep
