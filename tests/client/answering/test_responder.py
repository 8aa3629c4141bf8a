"""The one function through which anything leaves a hospital, asked by everyone it should not trust."""

import errno
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric import ec

from roiae.errors import FrameError, Reason, RefusalError
from roiae.identity.kit import PROTOCOL
from roiae.method.metrics import MEASURES, NT_SUMS
from roiae.method.training import initial_arrays
from roiae.shift.latents import digest
from roiae.site.answers import Site
from roiae.wire.contract import Arrays, EvaluateTask, Reply, TrainTask
from roiae.wire.envelope import ROIAE, Ask, Greeting, check, signed_bytes
from roiae_client.answering.ledger import Ledger, LedgerReader
from roiae_client.answering.responder import Answer, Responder
from roiae_client.folder.site_config import Limits, SiteConfig
from tests.client.conftest import read
from tests.conftest import MODEL
from tests.signing import TRUSTED, new_ask, new_key, new_signer, signed

KEY = ec.generate_private_key(ec.SECP384R1())
START = initial_arrays(MODEL, 7)  # what `initial` is
OPEN = Limits(min_frames=2, min_subjects=2, start_models=(digest(START),))
EVALUATE = EvaluateTask(model=MODEL, batch_size=8, threads=2)
SECRET = "/srv/images/jane-doe.png"


def ask(request: str = "r1") -> Ask:
    """What the coordinator keeps of a request, as far as it compares a reply with it."""
    return new_ask(request=request)


def ask_responder(
    responder: Responder, kind: str, text: str, arrays: Arrays, request: str = "r1", site: str = "alpha", **changes: Any
) -> Answer:
    """To a request as the coordinator signs it, but for these fields of its ask."""
    return responder.answer(kind, signed(kind, text, arrays, site=site, request=request, **changes), text, arrays)


def config(limits: Limits = OPEN, name: str = "alpha") -> SiteConfig:
    return SiteConfig(name=name, data=Path("data"), limits=limits, threads=1)


@pytest.fixture
def responder(make_site: Callable[..., Site], ledger: Ledger) -> Responder:
    return Responder(config(), KEY, TRUSTED, ledger, lambda side, config: make_site("alpha"))


def test_an_update_leaves_sealed_and_written_down(
    responder: Responder, ledger_path: Path, recipe: TrainTask, initial: Arrays
) -> None:
    envelope, signature, reply = ask_responder(responder, "train", recipe.model_dump_json(), initial)

    check(KEY.public_key(), ask(), "train", "alpha", envelope, signature, reply)
    assert reply is not None
    (line,) = read(ledger_path)
    assert (line.kind, line.request, line.reason) == ("train", "r1", "")
    assert [array["name"] for array in line.arrays] == list(initial)
    assert line.metrics == list(reply.metrics)
    assert (line.weights, line.round, line.passes) == (digest(initial), 1, 1)
    assert line.bytes == sum(array.nbytes for array in initial.values()) + 8 * len(reply.metrics)
    assert (envelope.ledger_lines, envelope.ledger_head) == (1, line.hash)


def test_numbers_alone_leave_without_arrays(responder: Responder, ledger_path: Path, initial: Arrays) -> None:
    envelope, signature, reply = ask_responder(responder, "evaluate", EVALUATE.model_dump_json(), initial)

    check(KEY.public_key(), ask(), "evaluate", "alpha", envelope, signature, reply)
    assert (read(ledger_path)[0].arrays, sorted(read(ledger_path)[0].metrics)) == (
        [],
        sorted([*MEASURES, "frames", *NT_SUMS]),
    )


def test_the_handshake_says_who_and_which_version_and_opens_no_data(ledger: Ledger) -> None:
    def open_site(side: int, config: SiteConfig) -> Site:
        raise AssertionError("no data are needed")

    envelope, signature, reply = ask_responder(
        Responder(config(), KEY, TRUSTED, ledger, open_site), "query.identify", "", {}
    )

    check(KEY.public_key(), ask(), "query.identify", "alpha", envelope, signature, reply)
    assert (envelope.site, envelope.roiae, envelope.protocol) == ("alpha", ROIAE, PROTOCOL)
    assert reply == Reply(OPEN.as_numbers(), {}, 0.0)
    assert {"limits.max_learning_rate": 0.003, "limits.max_requests.train": 200.0}.items() <= reply.metrics.items()
    assert not any("start_models" in name for name in reply.metrics)


def test_the_update_is_clipped_to_the_sites_bound(
    make_site: Callable[..., Site], ledger: Ledger, recipe: TrainTask, initial: Arrays
) -> None:
    limits = OPEN.model_copy(update={"max_update_norm": 1e-3})
    responder = Responder(config(limits), KEY, TRUSTED, ledger, lambda side, config: make_site("alpha"))

    _, _, reply = ask_responder(responder, "train", recipe.model_dump_json(), initial)

    assert reply is not None
    update = np.concatenate([(reply.arrays[name] - initial[name]).ravel() for name in initial])
    assert np.linalg.norm(update) == pytest.approx(1e-3, rel=0.01)


def test_in_half_precision_the_clipped_difference_leaves(
    responder: Responder, ledger_path: Path, recipe: TrainTask, initial: Arrays
) -> None:
    whole = ask_responder(responder, "train", recipe.model_dump_json(), initial, "r1")[2]
    half = ask_responder(
        responder, "train", recipe.model_copy(update={"upload": "float16"}).model_dump_json(), initial, "r2"
    )

    check(KEY.public_key(), ask("r2"), "train", "alpha", *half)
    assert whole is not None
    assert half[2] is not None
    for name, difference in half[2].arrays.items():
        assert difference.dtype == np.float16
        np.testing.assert_allclose(difference, whole.arrays[name] - initial[name], rtol=1e-3, atol=1e-6)
    assert {array["dtype"] for array in read(ledger_path)[1].arrays} == {"float16"}


def test_the_site_decides_the_number_of_threads(responder: Responder, initial: Arrays) -> None:
    asked = EVALUATE.model_copy(update={"threads": 200})
    ask_responder(responder, "evaluate", asked.model_dump_json(), initial)

    assert torch.get_num_threads() == 1


def test_the_data_are_opened_once(make_site: Callable[..., Site], ledger: Ledger, initial: Arrays) -> None:
    opened: list[int] = []

    def open_site(side: int, config: SiteConfig) -> Site:
        opened.append(side)
        return make_site(config.name)

    responder = Responder(config(), KEY, TRUSTED, ledger, open_site)
    for request in ("r1", "r2"):
        ask_responder(responder, "evaluate", EVALUATE.model_dump_json(), initial, request)

    assert opened == [MODEL.image_size]


def reason_of(answer: Answer) -> str:
    """The reason of a refusal, which is well signed and brings nothing else."""
    envelope, signature, reply = answer
    assert reply is None
    asked = ask(envelope.request)
    check(KEY.public_key(), asked, envelope.kind, "alpha", envelope, signature, None)
    return envelope.reason


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("query.everything", "{}", Reason.BAD_REQUEST),
        ("query." + "x" * 1000, "{}", Reason.BAD_REQUEST),
        ("evaluate", "", Reason.BAD_REQUEST),
        ("evaluate", "[" * 100_000, Reason.BAD_REQUEST),
        ("train", EVALUATE.model_dump_json(), Reason.BAD_REQUEST),
        ("query.keys", EVALUATE.model_dump_json(), Reason.NOT_ALLOWED),
    ],
)
def test_what_is_not_allowed_is_refused_and_written_down(
    responder: Responder, ledger_path: Path, initial: Arrays, kind: str, text: str, reason: Reason
) -> None:
    assert reason_of(ask_responder(responder, kind, text, initial)) == reason
    assert [(line.reason, line.arrays, line.bytes) for line in read(ledger_path)] == [(reason, [], 0)]


@pytest.mark.parametrize(("epochs", "reason"), [(50, Reason.NOT_ALLOWED), (10**9, Reason.BAD_REQUEST)])
def test_huge_numbers_of_local_epochs_are_refused(
    responder: Responder, recipe: TrainTask, initial: Arrays, epochs: int, reason: Reason
) -> None:
    task = json.loads(recipe.model_dump_json()) | {"local_epochs": epochs}

    assert reason_of(ask_responder(responder, "train", json.dumps(task), initial)) == reason


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(
    responder: Responder, recipe: TrainTask, initial: Arrays, value: float
) -> None:
    name = next(iter(initial))
    poisoned = initial | {name: np.full_like(initial[name], value)}

    assert reason_of(ask_responder(responder, "train", recipe.model_dump_json(), poisoned)) == Reason.NOT_FINITE


def test_training_that_ends_in_nan_sends_nothing(
    make_site: Callable[..., Site], ledger: Ledger, recipe: TrainTask, initial: Arrays
) -> None:
    task = recipe.model_copy(update={"learning_rate": 1e38, "local_epochs": 3})
    limits = OPEN.model_copy(update={"max_learning_rate": 1e38})
    responder = Responder(config(limits), KEY, TRUSTED, ledger, lambda side, config: make_site("alpha"))

    assert reason_of(ask_responder(responder, "train", task.model_dump_json(), initial)) == Reason.NOT_FINITE


def test_code_in_a_task_is_text_and_does_nothing(
    responder: Responder, recipe: TrainTask, initial: Arrays, tmp_path: Path
) -> None:
    trace = tmp_path / "it-ran"
    code = f"__import__('pathlib').Path({str(trace)!r}).touch()"
    yaml = f"!!python/object/apply:os.system ['touch {trace}']"
    settings = json.loads(recipe.model_dump_json())
    tasks = [code, yaml, *(json.dumps(settings | {key: text}) for text in (code, yaml) for key in (*settings, "code"))]

    for n, text in enumerate(tasks):
        assert reason_of(ask_responder(responder, "train", text, initial, f"r{n}")) == Reason.BAD_REQUEST
    assert not trace.exists()


def test_a_replayed_request_is_refused_also_after_a_restart(
    make_site: Callable[..., Site], ledger_path: Path, initial: Arrays
) -> None:
    for expected in ("", Reason.ALREADY_ANSWERED, Reason.ALREADY_ANSWERED):
        ledger = Ledger(ledger_path)
        responder = Responder(config(), KEY, TRUSTED, ledger, lambda side, config: make_site("alpha"))
        envelope, _, reply = ask_responder(responder, "evaluate", EVALUATE.model_dump_json(), initial)
        ledger.close()
        assert (envelope.reason, reply is None) == (expected, bool(expected))


def test_another_protocol_is_refused_politely_with_our_version(responder: Responder) -> None:
    old = new_ask(protocol=PROTOCOL + 1, roiae="9.9.9")
    envelope, signature, reply = responder.decline("evaluate", Greeting.from_record(old.model_dump()))

    assert (envelope.reason, envelope.protocol, envelope.roiae) == (Reason.WRONG_VERSION, PROTOCOL, ROIAE)
    with pytest.raises(RefusalError) as refusal:
        check(KEY.public_key(), old, "evaluate", "alpha", envelope, signature, reply)
    assert refusal.value.reason == Reason.WRONG_VERSION


def test_a_site_that_has_withdrawn_answers_nothing_else(
    make_site: Callable[..., Site], ledger: Ledger, initial: Arrays
) -> None:
    withdrawn = False
    responder = Responder(config(), KEY, TRUSTED, ledger, lambda side, config: make_site("alpha"), lambda: withdrawn)
    assert ask_responder(responder, "query.identify", "", {}, "r0")[0].reason == ""

    withdrawn = True
    for n, kind in enumerate(("query.identify", "evaluate", "query.what"), start=1):
        assert (
            reason_of(ask_responder(responder, kind, EVALUATE.model_dump_json(), initial, f"r{n}")) == Reason.WITHDRAWN
        )


def test_a_site_cannot_answer_in_anothers_name(make_site: Callable[..., Site], ledger: Ledger, initial: Arrays) -> None:
    forger = Responder(config(name="beta"), KEY, TRUSTED, ledger, lambda side, config: make_site("beta"))
    envelope, signature, reply = ask_responder(forger, "evaluate", EVALUATE.model_dump_json(), initial)

    for claimed in (envelope, envelope.model_copy(update={"site": "alpha"})):
        with pytest.raises(RefusalError) as refusal:
            check(KEY.public_key(), ask(), "evaluate", "alpha", claimed, signature, reply)
        assert refusal.value.reason == Reason.BAD_SIGNATURE


@pytest.mark.parametrize("error", [FrameError(SECRET), ValueError(SECRET), OSError(28, SECRET), MemoryError(SECRET)])
def test_the_text_of_an_exception_stays_in_the_log(
    ledger: Ledger, ledger_path: Path, initial: Arrays, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def open_site(side: int, config: SiteConfig) -> Site:
        raise error

    responder = Responder(config(), KEY, TRUSTED, ledger, open_site)
    answer = ask_responder(responder, "evaluate", EVALUATE.model_dump_json(), initial)

    envelope, signature, reply = answer
    assert reason_of(answer) == Reason.SITE_FAILED
    left = repr(envelope.to_record(signature)).encode() + signed_bytes(envelope, reply) + signature
    for part in (b"srv", b"jane", b"doe", b"png", type(error).__name__.encode()):
        assert part not in left
        assert part not in ledger_path.read_bytes()
    assert "jane-doe" in caplog.text


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_where_the_disk_is_full_nothing_of_the_answer_leaves(
    responder: Responder, ledger: Ledger, ledger_path: Path, initial: Arrays, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    ask_responder(responder, "evaluate", EVALUATE.model_dump_json(), initial, "r1")
    good = ledger.head

    def fill(*of: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fill)
        answer = ask_responder(responder, "evaluate", EVALUATE.model_dump_json(), initial, "r2")

    assert reason_of(answer) == Reason.SITE_FAILED
    assert (answer[0].ledger_lines, answer[0].ledger_head) == good
    assert ask_responder(responder, "evaluate", EVALUATE.model_dump_json(), initial, "r2")[2] is not None
    assert [line.request for line in read(ledger_path)] == ["r1", "r2"]


def test_an_answer_that_cannot_be_sealed_does_not_leave(
    ledger: Ledger, initial: Arrays, make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Site, "answer", lambda *asked: Reply({"subject": "jane"}, {}, 0.0))  # type: ignore[dict-item]
    responder = Responder(config(), KEY, TRUSTED, ledger, lambda side, config: make_site("alpha"))

    assert reason_of(ask_responder(responder, "evaluate", EVALUATE.model_dump_json(), initial)) == Reason.SITE_FAILED


def test_a_head_that_the_ledger_never_had_is_refused_written_down_and_silences_nobody(
    responder: Responder, ledger: Ledger, ledger_path: Path, initial: Arrays, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        answer = ask_responder(responder, "train", "", initial, acknowledged_lines=3, acknowledged_head="d" * 64)

    assert reason_of(answer) == Reason.BAD_REQUEST
    assert (answer[0].ledger_lines, answer[0].ledger_head) == ledger.head
    assert "seen line 3 with hash ddd" in caplog.text
    assert ask_responder(responder, "evaluate", EVALUATE.model_dump_json(), initial, "r2")[2] is not None
    lines = read(ledger_path)
    assert [(line.request, line.reason, line.claimed) for line in lines] == [
        ("r1", "bad-request", (3, "d" * 64)),
        ("r2", "", None),
    ]


def test_the_coordinators_acknowledged_head_is_kept(responder: Responder, ledger_path: Path) -> None:
    first, _, _ = ask_responder(responder, "query.identify", "", {}, "r1")
    seen: dict[str, Any] = {"acknowledged_lines": first.ledger_lines, "acknowledged_head": first.ledger_head}
    assert ask_responder(responder, "query.identify", "", {}, "r2", **seen)[0].reason == ""

    assert LedgerReader(ledger_path).acknowledged == (1, first.ledger_head)


def test_a_cut_ledger_shows_by_the_coordinators_word_where_the_head_beside_it_was_removed_too(
    ledger_path: Path, make_site: Callable[..., Site]
) -> None:
    def open_responder() -> tuple[Responder, Ledger]:
        ledger = Ledger(ledger_path)
        return Responder(config(), KEY, TRUSTED, ledger, lambda side, config: make_site("alpha")), ledger

    responder, ledger = open_responder()
    seen: dict[str, Any] = {}
    for n in range(3):
        said, _, _ = ask_responder(responder, "query.identify", "", {}, f"r{n}", **seen)
        seen = {"acknowledged_lines": said.ledger_lines, "acknowledged_head": said.ledger_head}
    ledger.close()
    ledger_path.write_bytes(ledger_path.read_bytes().splitlines(keepends=True)[0])
    ledger_path.with_suffix(".acknowledged.json").unlink()

    responder, ledger = open_responder()  # nothing on this machine shows it
    reasons = [ask_responder(responder, "query.identify", "", {}, f"later{n}", **seen)[0].reason for n in range(5)]
    ledger.close()

    assert reasons == ["bad-request"] * 5  # also when the ledger has grown past the line that is missing
    reader = LedgerReader(ledger_path)
    assert [line.claimed for line in reader][1:] == [(3, seen["acknowledged_head"])] * 5
    assert reader.claimed == (3, seen["acknowledged_head"])


def test_a_strangers_ledger_head_is_not_even_looked_at(
    responder: Responder, ledger_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    forged = signed(
        "query.identify", "", {}, new_signer(9, new_key()), acknowledged_lines=3, acknowledged_head="d" * 64
    )
    answer = responder.answer("query.identify", forged, "", {})

    assert answer[0].reason == Reason.BAD_SIGNATURE
    assert "seen line 3" not in caplog.text
    assert [(line.run, line.request, line.reason, line.claimed) for line in read(ledger_path)] == [
        ("", "", "bad-signature", None)
    ]
    identified, *_ = ask_responder(responder, "query.identify", "", {}, forged.ask.request)
    assert identified.reason == ""  # its number was not used up


def test_a_flood_of_forged_and_of_repeated_requests_leaves_two_lines_and_a_count(
    responder: Responder, ledger_path: Path
) -> None:
    recorded = signed("query.identify", "", {})
    assert responder.answer("query.identify", recorded, "", {})[0].reason == ""
    forged = signed("query.identify", "", {}, new_signer(9, new_key()))

    for flood in (forged, recorded) * 20:
        assert responder.answer("query.identify", flood, "", {})[2] is None
    assert ask_responder(responder, "query.identify", "", {}, "r2")[0].reason == ""

    assert [(line.reason, line.turned_away) for line in read(ledger_path)] == [
        ("", 0), ("bad-signature", 0), ("already-answered", 0), ("", 38),
    ]  # fmt: skip
