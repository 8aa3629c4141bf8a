"""Codes and numbers in words."""

import pytest

from roiae.errors import Reason
from roiae.shift.outcome import WhyNot
from roiae_server.report.words import listing, percent, reason, signed, why_not


def test_every_reason_has_words() -> None:
    assert all(reason(code) != code for code in [*Reason, "discarded"])
    assert all(why_not(code) != code for code in WhyNot)


def test_a_code_of_another_version_is_shown_as_it_is() -> None:
    assert (reason("too-warm"), why_not("too-cold")) == ("too-warm", "too-cold")


@pytest.mark.parametrize(("names", "text"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")])
def test_names_are_listed_as_a_sentence_does(names: list[str], text: str) -> None:
    assert listing(names) == text


@pytest.mark.parametrize(("value", "text"), [(0.25, "+0.2"), (-0.25, "−0.2"), (-0.001, "0.0"), (0.0, "0.0")])
def test_a_change_has_its_sign_and_nothing_has_none(value: float, text: str) -> None:
    assert signed(value, ".1f") == text


def test_a_share_is_printed_as_per_cent_on_one_line() -> None:
    assert percent(-0.0714) == "−7.1\N{NO-BREAK SPACE}%"
    assert percent(None) == "–"
