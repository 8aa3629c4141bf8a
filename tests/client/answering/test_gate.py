"""Which requests a hospital looks at: asked by strangers, by the coordinator of yesterday, and by the coordinator."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roiae.errors import Reason, RefusalError
from roiae.identity.keys import fingerprint
from roiae.identity.request_key import RequestCertificate
from roiae.wire.signed_request import CLOCK_SECONDS, MAX_SECONDS, RequestSigner, SignedAsk
from roiae_client.answering.gate import LINE_SECONDS, Doorbell, Gate, Trusted
from roiae_client.answering.ledger import Ledger
from tests.client.conftest import read
from tests.signing import CA, FEDERATION, SIGNER, TRUSTED, new_key, new_signer, signed

NOW = 1_000_000
KIND, TASK = "query.identify", "{}"


@pytest.fixture
def gate(ledger: Ledger) -> Gate:
    return at(ledger)


def at(ledger: Ledger, now: float = NOW, trusted: Trusted = TRUSTED) -> Gate:
    return Gate("alpha", trusted, ledger, lambda: now)


def request(signer: RequestSigner = SIGNER, **changes: Any) -> SignedAsk:
    return signed(KIND, TASK, {}, signer, **({"issued": NOW, "expires": NOW + 60} | changes))


def passes(gate: Gate, signed: SignedAsk) -> None:
    gate.check(KIND, signed, TASK, {})


def refused(gate: Gate, signed: SignedAsk, match: str | None = None) -> Reason:
    with pytest.raises(RefusalError, match=match) as refusal:
        gate.check(KIND, signed, TASK, {})
    return refusal.value.reason


def test_what_the_coordinator_signed_for_this_site_passes(gate: Gate) -> None:
    passes(gate, request())


def test_a_request_by_a_key_that_the_ca_did_not_certify_is_refused(gate: Gate) -> None:
    stranger = new_signer(9, new_key())
    dressed_up = RequestSigner(stranger.key, SIGNER.certificate)
    elsewhere = new_signer(9, CA, "nt-asia")

    assert refused(gate, request(stranger), "CA did not certify") == Reason.BAD_SIGNATURE
    assert refused(gate, request(dressed_up), "has not signed") == Reason.BAD_SIGNATURE
    assert refused(gate, request(elsewhere), "CA did not certify") == Reason.BAD_SIGNATURE


@pytest.mark.parametrize("other", [("train", TASK), (KIND, "{ }")])
def test_a_signature_for_another_kind_or_task_is_refused(gate: Gate, other: tuple[str, str]) -> None:
    with pytest.raises(RefusalError) as refusal:
        gate.check(other[0], request(), other[1], {})
    assert refusal.value.reason == Reason.BAD_SIGNATURE


def test_a_request_for_another_site_is_refused_though_it_is_well_signed(gate: Gate) -> None:
    assert refused(gate, request(site="beta"), "is for beta") == Reason.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (NOW - CLOCK_SECONDS - 1, Reason.EXPIRED),  # our clock is minutes behind: signed in the future
        (NOW - CLOCK_SECONDS, None),
        (NOW + 60 + CLOCK_SECONDS, None),
        (NOW + 60 + CLOCK_SECONDS + 1, Reason.EXPIRED),  # our clock is minutes ahead, or the request was held back
    ],
)
def test_clocks_may_differ_by_five_minutes_and_no_more(ledger: Ledger, now: float, reason: Reason | None) -> None:
    if reason is None:
        passes(at(ledger, now), request())
    else:
        assert refused(at(ledger, now), request(), "Compare both clocks") == reason


@pytest.mark.parametrize("lifetime", [0, -60, MAX_SECONDS + 1, 2**62])
def test_a_request_is_good_for_a_day_at_most(gate: Gate, lifetime: int) -> None:
    assert refused(gate, request(expires=NOW + lifetime)) == Reason.BAD_REQUEST
    passes(gate, request(expires=NOW + MAX_SECONDS))


def test_a_request_that_is_in_the_ledger_is_refused(gate: Gate, ledger: Ledger) -> None:
    once = request()
    passes(gate, once)
    ledger.append(run="run", request=once.ask.request, kind=KIND, reason="", arrays={}, metrics=())

    assert refused(gate, once) == Reason.ALREADY_ANSWERED
    passes(gate, request())


def test_a_later_request_key_is_written_down_and_the_one_before_is_of_no_use(
    gate: Gate, ledger: Ledger, ledger_path: Path
) -> None:
    later = new_signer(3)
    passes(gate, request())

    passes(gate, request(later))

    (line,) = read(ledger_path)
    assert (line.kind, line.request_key) == ("request-key", (3, fingerprint(later.key.public_key())))
    assert refused(gate, request(), "restored from a backup, they type `roiae-server renew") == Reason.BAD_SIGNATURE
    assert refused(gate, request(new_signer(2))) == Reason.BAD_SIGNATURE
    second = new_signer(3)  # as a restored coordinator would make it
    assert refused(gate, request(second), "this site has seen 3") == Reason.BAD_SIGNATURE
    passes(gate, request(later))


def test_the_latest_request_key_outlives_a_restart_and_an_older_kit(ledger_path: Path) -> None:
    opened = Ledger(ledger_path)
    passes(at(opened), request(new_signer(3)))
    opened.close()

    reopened = Ledger(ledger_path)
    assert refused(at(reopened), request()) == Reason.BAD_SIGNATURE
    newer = new_signer(7)
    gate = at(reopened, trusted=Trusted(FEDERATION, CA.public_key(), newer.certificate))
    assert refused(gate, request(new_signer(5))) == Reason.BAD_SIGNATURE  # a later kit counts as well
    passes(gate, request(newer))
    reopened.close()


def test_a_certificate_counts_only_with_a_request_that_its_key_signed(gate: Gate, ledger: Ledger) -> None:
    announced = request()._replace(certificate=new_signer(3).certificate)

    assert refused(gate, announced) == Reason.BAD_SIGNATURE
    assert ledger.request_key is None
    passes(gate, request())


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.integers(1, 2**63 - 1), line=st.text(max_size=200), signature=st.text(max_size=150))
def test_whatever_a_certificate_says_ends_as_a_refusal(
    gate: Gate, ledger: Ledger, number: int, line: str, signature: str
) -> None:
    odd = RequestCertificate(number=number, public_key=line, signature=signature)

    assert refused(gate, request()._replace(certificate=odd)) == Reason.BAD_SIGNATURE
    assert ledger.request_key is None


def test_of_many_requests_that_are_turned_away_one_in_ten_minutes_gets_a_line_and_all_are_counted() -> None:
    now = 0.0
    doorbell = Doorbell(lambda: now)
    rung = []
    for _ in range(1000):
        rung.append(doorbell.ring(Reason.BAD_SIGNATURE))
        now += LINE_SECONDS / 400

    assert [n for n, rings in enumerate(rung) if rings] == [0, 400, 800]
    assert doorbell.counted == 997
    assert doorbell.ring(Reason.EXPIRED)  # no flood of one kind hides another
    doorbell.written(990)
    assert doorbell.counted == 7
