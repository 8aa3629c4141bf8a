"""`roiae-server start`, as far as it gets before anything is started."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from filelock import FileLock

from roiae.errors import ServiceError, SetupError
from roiae.identity.certificates import certificate_key, load_certificate
from roiae.process.service import free_port
from roiae_server.enrolment.authority import SERVER_LIFETIME, Authority
from roiae_server.enrolment.coordinator_folder import CoordinatorFolder
from roiae_server.service.processes import LOCK, start


@pytest.fixture
def folder(tmp_path: Path) -> CoordinatorFolder:
    folder = CoordinatorFolder.create(tmp_path / "coordinator", "localhost", free_port(), "test")
    folder.superlink.mkdir(exist_ok=True)
    return folder


def test_an_expired_certificate_is_said_before_anything_is_started(folder: CoordinatorFolder) -> None:
    key = certificate_key(load_certificate(folder.server_certificate.read_bytes(), "it"), "it")
    long_ago = datetime.now(UTC) - SERVER_LIFETIME - timedelta(hours=1)
    folder.server_certificate.write_bytes(Authority.load(folder.pki).issue_server("localhost", key, long_ago))

    with pytest.raises(SetupError, match=r"has expired.*roiae-server renew"):
        start(folder, "first", serve=False)

    assert not (folder.runs / "first").exists()


def test_a_second_start_does_not_touch_the_run(folder: CoordinatorFolder) -> None:
    with FileLock(folder.superlink / LOCK), pytest.raises(ServiceError, match="is served already"):
        start(folder, "first", serve=False)

    assert not (folder.runs / "first").exists()
