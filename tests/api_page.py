"""docs/API.md, written of the public names' own docstrings: `python -m tests.api_page` rewrites it."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import roiae
import roiae_lab

PAGE = Path(__file__).parents[1] / "docs" / "API.md"
HEAD = """\
# The library

Two packages have a public face; everything else may change. A mistake raises a `roiae.RoiaeError`, whose one message
says what, where, what was expected and what to do. [example.py](example.py) uses all of it on phantom hospitals, within
two minutes on two cores.
"""


def page() -> str:
    return HEAD + "".join(_package(package) for package in (roiae, roiae_lab))


def _package(package: ModuleType) -> str:
    title = (package.__doc__ or "").splitlines()[0]
    names = [(name, getattr(package, name)) for name in package.__all__]
    return f"\n## `{package.__name__}`\n\n{title}\n" + "".join(
        part for name, of in names for part in _entry(package, name, of)
    )


def _entry(package: ModuleType, name: str, of: Any) -> Iterator[str]:
    yield f"\n### `{package.__name__}.{name}`\n\n"
    if inspect.isfunction(of):
        yield f"```python\n{name}{signature(of)}\n```\n\n"
    yield f"```text\n{inspect.getdoc(of)}\n```\n"
    if inspect.isclass(of):
        for member, value in vars(of).items():
            if not member.startswith("_") and (said := _member(member, value)):
                yield said


def _member(name: str, value: Any) -> str:
    function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
    if not inspect.isfunction(function) or not function.__doc__:
        return ""
    shown = f".{name}" if isinstance(value, property) else f".{name}{signature(function)}"
    return f"\n`{shown}`: {inspect.cleandoc(function.__doc__).splitlines()[0]}\n"


def signature(of: Any) -> str:
    """As it is typed, without the names of the modules that its types come from."""
    text = str(inspect.signature(of))
    for package in ("collections.abc.", "typing.", "pathlib.", "torch.", "numpy."):
        text = text.replace(package, "")
    return text


if __name__ == "__main__":
    PAGE.write_text(page())
