import json
from pathlib import Path

import pytest

from roiae.config import Role, build_config
from roiae.errors import Reason, RunFolderError
from roiae_server.run.records import PARTICIPATION, Line, participation, read_participation
from roiae_server.run.run_folder import RunFolder, RunState

ASKED = Line(
    step="phase1", round=2, site="a", status="aggregated", reason=None, metrics={"loss": 0.1, "frames": 7},
    seconds=1.5, bytes_out=1000, bytes_in=500,
)  # fmt: skip


def line(site: str, status: str, reason: str | None = None) -> Line:
    return Line.model_validate(ASKED.model_dump() | {"site": site, "status": status, "reason": reason})


def test_a_line_is_written_key_for_key_and_number_for_number() -> None:
    written = (
        b'{"step": "phase1", "round": 2, "site": "a", "status": "aggregated", "reason": null, '
        b'"metrics": {"loss": 0.1, "frames": 7}, "seconds": 1.5, "bytes_out": 1000, "bytes_in": 500}\n'
    )

    assert ASKED.to_bytes() == written
    assert Line.model_validate_json(written).to_bytes() == written
    assert b'"reason": "offline"' in line("a", "missing", Reason.OFFLINE).to_bytes()


def test_requests_are_counted_by_what_became_of_them() -> None:
    lines = [
        line("a", "aggregated"),
        line("a", "refused", "not-finite"),
        line("a", "missing", "offline"),
        line("a", "missing", "offline"),
        line("a", "discarded"),
        line("stranger", "refused", "not-asked"),
    ]

    table = participation({"a": Role.SOURCE, "b": Role.HELD_OUT}, lines)

    assert (table["a"].asked, table["a"].replied, table["a"].aggregated) == (5, 3, 1)
    assert table["a"].not_counted == {"not-finite": 1, "offline": 2, "discarded": 1}
    nothing = {"role": "held-out", "asked": 0, "replied": 0, "aggregated": 0, "not_counted": {}}
    assert table["b"].model_dump() == nothing
    assert list(table) == ["a", "b"]


@pytest.mark.parametrize("content", [b"{", b'{"a": {"role": "source", "asked": "often"}}', b'{"a": {"asked": 1}}'])
def test_a_damaged_participation_is_one_message(tmp_path: Path, content: bytes) -> None:
    (tmp_path / PARTICIPATION).write_bytes(content)

    with pytest.raises(RunFolderError, match=r"participation\.json: cannot be read"):
        read_participation(tmp_path)


def test_what_was_counted_is_read_as_it_was_written(tmp_path: Path) -> None:
    table = participation({"a": Role.SOURCE}, [ASKED, line("a", "missing", "offline")])
    written = {site: part.model_dump() for site, part in table.items()}
    (tmp_path / PARTICIPATION).write_text(json.dumps(written))

    assert read_participation(tmp_path) == table


@pytest.mark.parametrize("damage", [b'{"step": "phase1"}\n', b'{"step": "pha', b"[]\n"])
def test_a_damaged_line_is_one_message(tmp_path: Path, damage: bytes) -> None:
    run = RunFolder.create(tmp_path / "run", build_config({}), RunState({"a": Role.SOURCE}, {}, {}))
    run.commit(run.state, [ASKED], None, {})
    assert run.rounds() == [ASKED]
    (run.path / "rounds.jsonl").write_bytes(ASKED.to_bytes() + damage)

    with pytest.raises(RunFolderError, match=r"rounds\.jsonl: cannot be read"):
        run.rounds()
