"""What the documentation says is what the code does."""

import re
from pathlib import Path

from roiae import errors
from roiae.config import build_config, read_settings
from roiae.errors import Reason, RoiaeError

ROOT = Path(__file__).parents[1]


def _all_errors(cls: type[RoiaeError]) -> list[type[RoiaeError]]:
    return [cls, *(found for child in cls.__subclasses__() for found in _all_errors(child))]


def test_every_exit_code_and_reason_is_documented() -> None:
    page = (ROOT / "docs" / "FAILURES.md").read_text()

    for error in _all_errors(RoiaeError):
        own = "exit_code" in vars(error) and error is not RoiaeError
        assert not own or f"| {error.exit_code} | `{error.__name__}` |" in page
    assert all(f"| `{reason}` |" in page for reason in Reason)


def test_the_error_tree_is_drawn_as_it_is() -> None:
    drawn = dict(re.findall(r"(\w+Error)\s+(\d+)\s", errors.__doc__ or ""))

    assert drawn == {
        error.__name__: str(error.exit_code)
        for error in _all_errors(RoiaeError)
        if "exit_code" in vars(error) and error is not RoiaeError
    }


def test_the_example_federations_configuration_is_valid() -> None:
    assert build_config(read_settings(ROOT / "deploy" / "federation.yaml")).control is False


def test_the_readmes_two_commands_are_targets_of_the_makefile() -> None:
    commands = re.findall(r"^make ([\w-]+)", (ROOT / "README.md").read_text(), flags=re.M)
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.M)

    assert {"simulate", "test"} <= set(commands) <= set(targets)
    assert all(f"make {target}" in (ROOT / ".ci" / "run").read_text() for target in ("simulate", "test"))
