"""Imports point one way: roiae_client → roiae ← roiae_server, roiae_lab above all three; Flower has one door a side."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "roiae": ROOT / "shared/roiae",
    "roiae_client": ROOT / "client/roiae_client",
    "roiae_server": ROOT / "server/roiae_server",
    "roiae_lab": ROOT / "server/roiae_lab",
}


def imported(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def files_that_import(package: str, target: str) -> set[str]:
    root = PACKAGES[package]
    return {str(path.relative_to(root)) for path in root.rglob("*.py") if target in imported(path)}


def test_the_science_knows_neither_side_nor_flower() -> None:
    for other in ("roiae_client", "roiae_server", "roiae_lab", "flwr", "ray"):
        assert files_that_import("roiae", other) == set()


def test_flower_has_one_door_a_side() -> None:
    for side in ("roiae_client", "roiae_server", "roiae_lab"):
        assert {name.split("/")[0] for name in files_that_import(side, "flwr")} == {"flower"}


def test_client_and_server_meet_in_the_lab_alone() -> None:
    assert files_that_import("roiae_client", "roiae_server") == set()
    assert files_that_import("roiae_server", "roiae_client") == set()


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_nothing_that_is_installed_draws_with_matplotlib(package: str) -> None:
    assert files_that_import(package, "matplotlib") == set()


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_commands_print_lines_by_one_function(package: str) -> None:
    others = {
        f"{path.name}:{node.lineno}"
        for path in PACKAGES[package].rglob("commands/*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "typer.echo", "typer.secho")
    }
    assert others == set(), "use roiae.console.terminal.say"


def test_the_coordinators_command_alone_opens_the_lab() -> None:
    assert files_that_import("roiae_client", "roiae_lab") == set()
    assert files_that_import("roiae_server", "roiae_lab") == {"cli.py"}


@pytest.mark.parametrize(
    "module",
    ["roiae_server.cli", "roiae_client.cli", "roiae_server.service.processes", "roiae_client.service.processes"],
)
def test_help_and_supervision_need_neither_torch_nor_flower(module: str) -> None:
    code = f"import {module}, sys; sys.exit('torch' in sys.modules or 'flwr' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
