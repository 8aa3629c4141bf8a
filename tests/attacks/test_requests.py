"""Requests that are not the coordinator's, or not new, or claim a ledger head that never was."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from roiae.errors import Reason
from roiae.site.answers import Site
from roiae.wire.envelope import IDENTIFY
from roiae_client.answering.gate import Gate
from roiae_client.answering.ledger import LEDGER, Ledger
from roiae_client.answering.responder import Responder
from roiae_client.folder.site_config import SiteConfig
from tests.signing import TRUSTED, new_key, new_signer, signed

pytestmark = [pytest.mark.slow, pytest.mark.attacks]

ANSWERED = ""
KEY = new_key()


@pytest.fixture
def responder(make_site: Callable[..., Site], tmp_path: Path) -> Iterator[Responder]:
    ledger = Ledger(tmp_path / LEDGER)
    config = SiteConfig(name="alpha", data=tmp_path, threads=1, device="cpu")
    yield Responder(config, KEY, TRUSTED, ledger, lambda side, config: make_site("alpha"))
    ledger.close()


def reason(responder: Responder, **changes: object) -> str:
    signer = changes.pop("signer", None)
    by = {"signer": signer} if signer else {}
    return responder.answer(IDENTIFY, signed(IDENTIFY, "", {}, **by, **changes), "", {})[0].reason  # type: ignore[arg-type]


def test_a_request_that_another_key_signed_is_refused(
    responder: Responder, record: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = new_signer(9, new_key())
    on = reason(responder, signer=stranger)
    with monkeypatch.context() as context:
        context.setattr(Gate, "check", lambda self, *request: None)
        off = reason(responder, signer=stranger)

    record("forged request", off="answered", refused=[on])
    assert (off, on) == (ANSWERED, Reason.BAD_SIGNATURE)


def test_a_request_is_answered_once(
    responder: Responder, record: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    once = signed(IDENTIFY, "", {})
    first, on = (responder.answer(IDENTIFY, once, "", {})[0].reason for _ in range(2))
    monkeypatch.setattr(Ledger, "answered", lambda self, request: False)
    off = responder.answer(IDENTIFY, once, "", {})[0].reason

    record("replayed request", off="answered", refused=[on])
    assert (first, on, off) == (ANSWERED, Reason.ALREADY_ANSWERED, ANSWERED)


def test_a_forged_ledger_head_does_not_silence_a_hospital(responder: Responder, record: Callable[..., None]) -> None:
    claimed = reason(responder, acknowledged_lines=7, acknowledged_head="f" * 64)
    after = reason(responder)

    record("forged head", refused=[claimed])
    assert (claimed, after) == (Reason.BAD_REQUEST, ANSWERED)
