"""A ledger that was altered, cut or written anew says in which line."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from roiae.errors import LedgerError
from roiae_client.answering.ledger import Head, Ledger, LedgerReader
from tests.client.conftest import read, write

Damage = Callable[[list[bytes]], list[bytes]]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda lines: [*lines[:2], lines[2].replace(b"5.0", b"4.0"), *lines[3:]], "line 3: was altered"),
        (lambda lines: [*lines[:2], lines[2].replace(b":5.0", b": 5.0"), *lines[3:]], "line 3: was altered"),
        (lambda lines: [*lines[:2], *lines[3:]], "line 3: says that it is line 4"),
        (lambda lines: lines[1:], "line 1: says that it is line 2"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "line 2: says that it is line 3"),
        (lambda lines: lines[:4], "line 5: the coordinator has seen this line .* it ends with line 4"),
        (lambda lines: [], "line 5: the coordinator has seen this line .* it ends with line 0"),
        (lambda lines: [*lines[:4], lines[4][:30]], "line 5: the coordinator has seen this line"),
        (lambda lines: [*lines[:2], b"{}\n", *lines[3:]], "line 3: was altered"),
        (lambda lines: [*lines[:2], b"\n", *lines[2:]], "line 3: was altered"),
    ],
)
def test_damage_is_told_with_its_line(ledger_path: Path, written: list[bytes], damage: Damage, said: str) -> None:
    ledger_path.write_bytes(b"".join(damage(written)))

    with pytest.raises(LedgerError, match=said):
        read(ledger_path)
    with pytest.raises(LedgerError, match=said):
        Ledger(ledger_path)


def test_a_lost_file_is_told_by_the_head_beside_it(ledger_path: Path, written: list[bytes]) -> None:
    ledger_path.unlink()

    with pytest.raises(LedgerError, match="line 5"):
        Ledger(ledger_path)


def forge(lines: list[bytes], first: int) -> list[bytes]:
    """The lines from `first` on written anew, with hashes that fit each other."""
    forged = lines[: first - 1]
    previous = json.loads(lines[first - 2])["hash"]
    for raw in lines[first - 1 :]:
        line = json.loads(raw) | {"previous": previous, "bytes": 1}
        del line["hash"]
        body = json.dumps(line, separators=(",", ":")).encode()[:-1]
        previous = sha256(body).hexdigest()
        forged.append(body + b',"hash":"' + previous.encode() + b'"}\n')
    return forged


def test_a_line_replaced_with_a_fitting_hash_shows_in_the_next(ledger_path: Path, written: list[bytes]) -> None:
    ledger_path.write_bytes(b"".join([*written[:2], forge(written, 3)[2], *written[3:]]))

    with pytest.raises(LedgerError, match="line 4: does not follow"):
        read(ledger_path)


def test_an_end_written_anew_shows_by_the_acknowledged_head(ledger_path: Path, written: list[bytes]) -> None:
    ledger_path.write_bytes(b"".join(forge(written, 3)))

    with pytest.raises(LedgerError, match=r"line 5: the coordinator has seen this line .* another line is there"):
        read(ledger_path)


def test_lines_after_the_acknowledged_one_are_welcome(ledger_path: Path, ledger: Ledger) -> None:
    first = write(ledger)
    write(ledger, "r2")
    ledger.acknowledge(first)

    assert len(read(ledger_path)) == 2


def test_a_head_that_this_ledger_never_had_is_not_kept_and_stops_nothing(ledger_path: Path, ledger: Ledger) -> None:
    head = write(ledger)
    assert ledger.acknowledge(head)

    for seen in (Head(7, "c" * 64), Head(1, "c" * 64), Head(0, "c" * 64)):
        assert not ledger.acknowledge(seen)
    write(ledger, "r2")
    assert len(read(ledger_path)) == 2
    assert LedgerReader(ledger_path).acknowledged == head


def test_a_claim_shows_until_a_request_is_answered(ledger_path: Path, ledger: Ledger) -> None:
    nothing: dict[str, Any] = {"run": "run", "arrays": {}, "metrics": ()}
    ledger.append(request="r1", kind="train", reason="bad-request", claimed=Head(7, "c" * 64), **nothing)
    ledger.append(request="", kind="train", reason="bad-signature", **nothing)

    def claimed() -> Head | None:
        reader = LedgerReader(ledger_path)
        lines = list(reader)
        assert lines[0].claimed == (7, "c" * 64)
        return reader.claimed

    assert claimed() == (7, "c" * 64)
    write(ledger, "r2")
    assert claimed() is None


def test_an_older_acknowledged_head_does_not_replace_a_later_one(ledger_path: Path, ledger: Ledger) -> None:
    heads = [write(ledger, "r1"), write(ledger, "r2")]
    for head in reversed(heads):
        ledger.acknowledge(head)

    assert LedgerReader(ledger_path).acknowledged == heads[1]


@pytest.mark.parametrize("content", [b"", b"{}", b'[1, "x", 3]', b'["many", "x"]'])
def test_a_damaged_head_beside_the_ledger_is_told(ledger_path: Path, written: list[bytes], content: bytes) -> None:
    ledger_path.with_suffix(".acknowledged.json").write_bytes(content)

    with pytest.raises(LedgerError, match="is damaged"):
        Ledger(ledger_path)
