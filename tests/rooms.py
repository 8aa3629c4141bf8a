"""The rooms of the code and the imports between them: `python -m tests.rooms` draws them into docs/ARCHITECTURE.md.

A room is a package's folder, or a file that lies in the package itself.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "ARCHITECTURE.md"
BEGIN, END = "<!-- rooms: python -m tests.rooms -->\n", "<!-- end of rooms -->\n"
PACKAGES = {
    "roiae": ROOT / "shared/roiae",
    "roiae_client": ROOT / "client/roiae_client",
    "roiae_server": ROOT / "server/roiae_server",
    "roiae_lab": ROOT / "server/roiae_lab",
}
Arrows = dict[str, set[str]]  # room → rooms that it imports


def modules(package: str) -> dict[str, Path]:
    root = PACKAGES[package]
    found = {}
    for path in sorted(root.rglob("*.py")):
        name = ".".join((package, *path.relative_to(root).with_suffix("").parts))
        found[name.removesuffix(".__init__")] = path
    return found


def arrows(package: str) -> Arrows:
    """Between the rooms of one package."""
    known = modules(package)
    rooms: Arrows = {_room(module): set() for module in known if module != package}
    for module, path in known.items():
        if module == package:
            continue
        targets = {_room(target) for target in _imported(path, known) if target != package}
        rooms[_room(module)] |= targets - {_room(module)}
    return rooms


def levels(rooms: Arrows) -> dict[str, int]:
    """How many rooms lie below each, one above the other.

    Raises:
        ValueError: rooms that import each other in a circle.
    """
    found: dict[str, int] = {}

    def level(room: str, above: tuple[str, ...]) -> int:
        if room in above:
            raise ValueError("a circle: " + " → ".join((*above[above.index(room) :], room)))
        if room not in found:
            found[room] = 1 + max((level(target, (*above, room)) for target in rooms[room]), default=0)
        return found[room]

    for room in rooms:
        level(room, ())
    return found


def drawing() -> str:
    """Each package as a Mermaid graph, an arrow from a room to one that it imports, unless it follows from others."""
    return "".join(_graph(package) for package in PACKAGES)


def put_in(page: str, drawn: str) -> str:
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + drawn + END + after


def _graph(package: str) -> str:
    rooms = arrows(package)
    high = levels(rooms)
    count = sum(map(len, rooms.values()))
    text = f"`{package}`: {len(rooms)} rooms on {max(high.values())} levels, {count} arrows.\n\n```mermaid\ngraph TD\n"
    for room in sorted(rooms, key=lambda one: (-high[one], one)):
        below = {target for other in rooms[room] for target in _reached(rooms, other)}
        kept = sorted(rooms[room] - below)
        name = room.removeprefix(f"{package}.")
        text += "".join(f"  {name} --> {target.removeprefix(f'{package}.')}\n" for target in kept) or f"  {name}\n"
    return text + "```\n\n"


def _reached(rooms: Arrows, room: str) -> set[str]:
    """Rooms below one, itself not among them."""
    return rooms[room] | {below for target in rooms[room] for below in _reached(rooms, target)}


def _room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def _imported(path: Path, known: dict[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield from (name for name in (whole, node.module) if name in known)


if __name__ == "__main__":
    PAGE.write_text(put_in(PAGE.read_text(), drawing()))
