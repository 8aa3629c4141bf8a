import pytest

from roiae_server.gateway.rate_limits import Bucket, RateLimits, origin
from roiae_server.gateway.settings import Limits


@pytest.mark.parametrize(
    ("address", "stranger"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
        ("2001:db8:1:ffff::1", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/48"),
    ],
)
def test_a_stranger_is_an_ipv4_address_or_an_ipv6_network_of_one_customer(address: str, stranger: str) -> None:
    assert origin(address) == stranger


def test_a_bucket_fills_with_time_and_may_owe(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("roiae_server.gateway.rate_limits.time.monotonic", lambda: now)
    bucket = Bucket(rate=2, burst=10)
    bucket.take(14)

    assert bucket.left() == -4
    now = 3.0
    assert bucket.left() == 2
    now = 100.0
    assert bucket.left() == 10


def test_strangers_without_number_are_not_remembered_without_end() -> None:
    known = RateLimits(Limits(strangers_rate=1e6))
    for number in range(20_000):
        known.admit_stranger(f"2001:db8:{number:x}::1")

    assert len(known._strangers) == 10_000
