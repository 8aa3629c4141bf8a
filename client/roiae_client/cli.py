"""`roiae-client`: hospital IT's command."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from roiae.cli import run_app
from roiae_client import doctor, enrol_commands, service_commands
from roiae_client.ledger_command import ledger

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
doctor.register(app)
enrol_commands.register(app)
service_commands.register(app)
app.command()(ledger)


@app.callback()
def root() -> None:
    """Take part in a federation with a hospital's own images, none of which leaves it."""


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="The hospital's data: manifest.csv and its images.")],
    image_size: Annotated[int, typer.Option(help="The model's side in pixels.")] = 256,
) -> None:
    """Read every frame as a run would, and say what would stop it. Nothing is sent anywhere."""
    from rich.console import Console
    from rich.progress import Progress

    from roiae.config import build_config
    from roiae.data.site_data import SiteData, default_cache_dir

    side = build_config({"model": {"image_size": image_size}}).model.image_size
    console = Console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=None)
        data = SiteData.open(
            folder,
            image_size=side,
            cache_dir=default_cache_dir(),
            on_frame=lambda done, total: bar.update(task, completed=done, total=total),
        )
    for name, split in {"training": data.train, "validation": data.validation}.items():
        console.print(f"{name}: {len(split)} frames of {len(set(split.subjects))} subjects", highlight=False)
    console.print("Every frame can be used.", highlight=False)


def main() -> None:
    sys.exit(run_app(app, "roiae-client"))
