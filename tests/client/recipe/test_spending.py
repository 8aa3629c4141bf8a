"""Budgets are what the ledger says: nothing but a longer ledger changes them."""

from pathlib import Path
from typing import Any

from roiae.errors import Reason
from roiae_client.answering.ledger import LEDGER, Head, Ledger
from roiae_client.recipe.spending import Asked


def write(ledger: Ledger, request: str, kind: str = "train", reason: str = "", run: str = "r", round_: int = 1) -> None:
    asked = Asked(f"{round_:064x}", round_, 0 if reason else 2)
    ledger.append(run=run, request=request, kind=kind, reason=reason, arrays={}, metrics=(), asked=asked)


def test_what_left_is_counted_by_run_and_kind_also_after_a_restart(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / LEDGER)
    write(ledger, "a")
    write(ledger, "b", round_=2)
    write(ledger, "c", "evaluate")
    write(ledger, "d", run="other")
    write(ledger, "e", "query.identify", run="third")
    before = ledger.spending.of("r")
    ledger.close()

    reopened = Ledger(tmp_path / LEDGER)
    assert reopened.spending.of("r") == before
    reopened.close()
    assert before.requests == {"train": 2, "evaluate": 1}
    assert before.passes == 4
    assert before.weights == {f"{1:064x}", f"{2:064x}"}
    assert before.runs_besides == 1


def test_the_same_weights_asked_again_under_another_number_count_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / LEDGER)
    write(ledger, "a")
    write(ledger, "b")

    assert ledger.spending.of("r").passes == 4
    ledger.close()


def test_of_the_refusals_those_that_may_tell_of_the_frames_count(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / LEDGER)
    alone = (Reason.NOT_ALLOWED, Reason.TASK_TOO_LARGE, Reason.BUDGET_SPENT, Reason.HELD_OUT, Reason.WITHDRAWN)
    telling = (Reason.OFF_COURSE, Reason.NOT_FINITE, Reason.SITE_FAILED, Reason.ALREADY_ANSWERED, Reason.BAD_REQUEST)
    for n, reason in enumerate((*alone, *telling)):
        write(ledger, f"r{n}", reason=reason)

    spent = ledger.spending.of("r")
    assert (spent.requests["train"], spent.passes, spent.weights) == (len(telling), 0, set())
    ledger.close()


def test_what_was_turned_away_or_came_with_another_head_spends_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / LEDGER)
    refused: Any = {"kind": "train", "reason": Reason.BAD_REQUEST, "arrays": {}, "metrics": ()}
    ledger.append(run="", request="", **refused)
    ledger.append(run="r", request="a", claimed=Head(7, "0" * 64), **refused)
    ledger.close()

    for spending in (ledger.spending, (reopened := Ledger(tmp_path / LEDGER)).spending):
        assert (spending.of("r").requests["train"], spending.of("other").runs_besides) == (0, 0)
    reopened.close()
