"""`roiae-client ledger`, as hospital IT types it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roiae_client.answering.ledger import LEDGER, Head, KeySeen, Ledger
from roiae_client.cli import main
from roiae_client.recipe.spending import Asked

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def show(capfd: pytest.CaptureFixture[str], run_main: Callable[..., int]) -> Command:
    def run(folder: Path, *options: str) -> tuple[int, str, str]:
        code = run_main(main, ["roiae-client", "ledger", str(folder), *options])
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def head(tmp_path: Path) -> Head:
    """Of the ledger of an update, a refusal and a handshake, of which two lines are acknowledged."""
    ledger = Ledger(tmp_path / LEDGER)

    def append(request: str, kind: str, reason: str = "", arrays: int = 0, **said: Any) -> Head:
        sent = {f"w{n}": np.ones(250_000, np.float32) for n in range(arrays)}
        said = {"metrics": (), **said}
        return ledger.append(run="run", request=request, kind=kind, reason=reason, arrays=sent, **said)

    append("r1", "train", arrays=3, metrics=("loss",), asked=Asked("5c" * 32, 7, 2))
    ledger.acknowledge(append("r2", "query.scores", "not-allowed"))
    head = append("r3", "query.identify")
    ledger.close()
    return head


def test_the_table_says_what_was_asked_and_what_left(show: Command, tmp_path: Path, head: Head) -> None:
    code, out, _ = show(tmp_path)

    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert code == 0
    assert lines[1].endswith(f"train the model on our frames, round 7 {'5c' * 32} 3 arrays and 1 number 3.0 MB")
    assert lines[2].endswith("domain-shift scores of our frames nothing: not-allowed 0 bytes")
    assert lines[3].endswith("which site and version this is its name, version and limits 0 bytes")
    assert lines[4] == "2 answers and 1 refusals, 3.0 MB of arrays and numbers in all."
    assert lines[5].endswith(f"line 3, {head.hash}")


def test_the_table_is_as_long_as_was_asked_and_the_totals_are_of_all(show: Command, tmp_path: Path, head: Head) -> None:
    _, out, _ = show(tmp_path, "--last", "1")

    assert ("train the model" in out, "which site" in out) == (False, True)
    assert "2 answers and 1 refusals" in out


def test_verify_says_that_every_line_is_as_it_was(show: Command, tmp_path: Path, head: Head) -> None:
    code, out, _ = show(tmp_path, "--verify")

    assert code == 0
    assert "Every line is as it was written. The coordinator has acknowledged 2 of 3." in out
    assert f"line 3, {head.hash}" in out
    assert "what was asked" not in out


@pytest.mark.parametrize("options", [(), ("--verify",)])
def test_an_altered_line_ends_with_exit_code_11(
    show: Command, tmp_path: Path, head: Head, options: tuple[str, ...]
) -> None:
    path = tmp_path / LEDGER
    path.write_text(path.read_text().replace("not-allowed", "no-frames"))

    code, out, err = show(tmp_path, *options)

    assert (code, out) == (11, "")
    assert err == f"roiae-client: {path}: line 2: was altered: its hash is not that of its text.\n"


def test_it_can_be_read_while_the_service_writes(show: Command, tmp_path: Path, head: Head) -> None:
    ledger = Ledger(tmp_path / LEDGER)

    assert show(tmp_path)[0] == 0
    ledger.close()


def test_an_unfinished_line_is_mentioned(show: Command, tmp_path: Path, head: Head) -> None:
    with (tmp_path / LEDGER).open("ab") as file:
        file.write(b'{"n":4')

    code, out, _ = show(tmp_path)

    assert (code, "The last line is unfinished" in out) == (0, True)


def test_a_head_that_was_claimed_and_requests_without_a_line_are_told(
    show: Command, tmp_path: Path, head: Head
) -> None:
    ledger = Ledger(tmp_path / LEDGER)
    said: dict[str, Any] = {"run": "run", "kind": "train", "arrays": {}, "metrics": ()}
    ledger.append(request="r4", reason="bad-request", claimed=Head(9, "c" * 64), **said)
    ledger.append(request="", reason="bad-signature", turned_away=41, **said)
    ledger.accept_request_key(KeySeen(2, "SHA256:x"))
    ledger.close()

    code, out, _ = show(tmp_path, "--verify")
    assert code == 0
    assert "1 times the coordinator says that it has seen line 9 with hash ccc" in out
    assert "41 more requests were turned away without a line" in out
    assert "nothing: key 2 signs requests" in show(tmp_path)[1]


def test_a_hospital_from_which_nothing_has_left_has_an_empty_ledger(show: Command, tmp_path: Path) -> None:
    (tmp_path / "site.yaml").touch()

    code, out, _ = show(tmp_path)

    assert (code, "0 answers and 0 refusals" in out) == (0, True)


def test_a_folder_that_is_no_hospitals_is_told(show: Command, tmp_path: Path) -> None:
    code, _, err = show(tmp_path / "nowhere")

    assert (code, "holds neither ledger.jsonl nor site.yaml" in err) == (9, True)


def test_no_line_can_write_to_the_terminal(roiae_client: Command, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / LEDGER)
    ledger.append(run="r", request="r1", kind="\x1b[2Jall well\n", reason="\x1b[31m", arrays={}, metrics=[])
    ledger.close()

    code, out, _ = roiae_client(["ledger", str(tmp_path)])

    assert code == 0
    assert "\x1b" not in out and "\\x1b[2Jall well\\n" in out.replace("\n", "")
