import io

import pytest
from rich.console import Console

from roiae.console.terminal import say


@pytest.mark.parametrize(
    "line",
    [
        "import.csv:100: expected a number",
        "set aside: ./a:cat:b.png",
        "--label [red] or [/red]",
        "  1. indented, and trailing  ",
        "long " * 40,
        "two\n\nlines",
    ],
)
def test_a_line_is_printed_as_it_is(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    say(line)
    assert capsys.readouterr().out == line + "\n"


def test_a_terminal_gets_no_colours_for_words() -> None:
    terminal = io.StringIO()
    say("round 3 of 'first': True, 0.5", Console(file=terminal, force_terminal=True, color_system="truecolor"))
    assert terminal.getvalue() == "round 3 of 'first': True, 0.5\n"
