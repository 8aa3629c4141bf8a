"""What is wrong with settings, in our words: one line for each key, with what was expected and what was found."""

import difflib
from collections.abc import Collection, Sequence
from typing import Any

from pydantic import ValidationError


def explained(error: ValidationError, known: Sequence[str], listed: str) -> list[str]:
    """
    Args:
        known: every dotted key of the schema.
        listed: a sentence that says where they are.
    """
    problems: dict[str, list[Any]] = {}  # by key: a value that fits no member of a union has one problem a member
    for problem in error.errors():
        problems.setdefault(_key_of(problem["loc"], known), []).append(problem)
    return [_explain(key, found, known, listed) for key, found in problems.items()]


def _key_of(location: Sequence[int | str], known: Collection[str]) -> str:
    """The dotted key, without the members of a union that pydantic names behind it."""
    key = ""
    for part in map(str, location):
        dotted = f"{key}.{part}" if key else part
        if key in known:
            return key
        key = dotted
    return key


def _explain(key: str, problems: Sequence[Any], known: Sequence[str], listed: str) -> str:
    if problems[0]["type"] == "extra_forbidden":
        near = _nearest(key, known)
        return f"{key}: no such setting. " + (f"Did you mean {near}?" if near else listed)
    expected = " or ".join(
        str(problem["msg"])
        .removeprefix("Value error, ")
        .removeprefix("Input should be ")
        .removeprefix("a valid ")
        .replace("String should match pattern", "text that matches")
        for problem in problems
    )
    if problems[0]["type"] == "model_type":
        expected = "a mapping of settings"
    return f"{key}: expected {expected}; found {kind_of(problems[0]['input'])}."


def _nearest(key: str, known: Sequence[str]) -> str | None:
    """The known key, or section, that an unknown one most likely meant."""
    sections = {name.rpartition(".")[0] for name in known} - {""}
    whole = difflib.get_close_matches(key, [*known, *sections], n=1, cutoff=0.75)
    leaves = {name.rpartition(".")[2]: name for name in reversed(known)}
    leaf = difflib.get_close_matches(key.rpartition(".")[2], leaves, n=1, cutoff=0.75)
    return whole[0] if whole else leaves[leaf[0]] if leaf else None


def kind_of(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return f"{value!r}"
