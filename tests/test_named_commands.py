"""Whatever a message, a page or a unit tells its reader to type is there to be typed."""

import re
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from roiae_client import cli as client
from roiae_server import cli as server

ROOT = Path(__file__).parents[1]
NAMED = {
    path
    for pattern in ("*/roiae*/**/*.py", "docs/*.md", "README.md", "deploy/**/*")
    for path in ROOT.glob(pattern)
    if path.is_file()
}


@pytest.mark.parametrize(("program", "app"), [("roiae-client", client.app), ("roiae-server", server.app)])
def test_every_command_that_is_named_exists(program: str, app: typer.Typer) -> None:
    there = {*typer.main.get_group(app).commands, "command"}  # "another roiae-server command is changing this folder"

    named = {
        (found[1], str(path.relative_to(ROOT)))
        for path in NAMED
        for found in re.finditer(rf"{program} ([a-z][a-z-]*)(?=[ `\"'\n]| \{{)", path.read_text())
    }

    assert {word for word, _ in named} >= {"start", "status", "report"}
    assert not [(word, where) for word, where in sorted(named) if word not in there]


@pytest.mark.parametrize(("app", "command"), [(client.app, "check"), (server.app, "simulate")])
def test_help_says_what_is_required_and_what_the_default_is_in_plain_text(app: typer.Typer, command: str) -> None:
    page = CliRunner().invoke(app, [command, "--help"]).stdout

    assert re.search(r" \[(required|default:)", page)
    assert "\\" not in page
