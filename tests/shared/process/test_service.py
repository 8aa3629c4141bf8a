"""What both sides' services need of their machine."""

from pathlib import Path

import pytest

from roiae.errors import ServiceError
from roiae.process.service import new_secret, only_one


def test_the_secret_is_new_each_time_and_its_owners_alone(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    new_secret(secret)
    first = secret.read_bytes()
    new_secret(secret)

    assert first != secret.read_bytes()
    assert secret.stat().st_mode & 0o777 == 0o600


def test_a_second_holder_is_refused_with_its_message_and_the_first_ones_end_lets_go(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with only_one(lock, "taken"), pytest.raises(ServiceError, match="taken"), only_one(lock, "taken"):
        raise AssertionError("two hold it")

    with only_one(tmp_path / "lock", "taken"):
        pass
