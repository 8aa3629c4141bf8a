"""How a command prints to a terminal."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def say(text: str, console: "Console | None" = None) -> None:
    """A line as it is: not coloured by its words, no markup and no emoji (`:100:`) read in it, and not wrapped."""
    from rich.console import Console

    (console or Console()).print(text, highlight=False, markup=False, emoji=False, soft_wrap=True)
