"""The code is as docs/ARCHITECTURE.md draws it, and no rooms import each other in a circle."""

import pytest

from tests.rooms import PACKAGES, PAGE, arrows, drawing, levels, put_in


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_no_rooms_import_each_other_in_a_circle(package: str) -> None:
    assert levels(arrows(package))


def test_a_circle_is_found() -> None:
    with pytest.raises(ValueError, match="a → b → a"):
        levels({"a": {"b"}, "b": {"a"}})


def test_nothing_lies_flat_in_the_coordinators_package_but_its_entry() -> None:
    files = {path.name for path in PACKAGES["roiae_server"].glob("*.py")}

    assert files == {"__init__.py", "cli.py"}


def test_the_page_draws_the_rooms_as_they_are() -> None:
    page = PAGE.read_text()

    assert page == put_in(page, drawing()), "run `python -m tests.rooms`"
