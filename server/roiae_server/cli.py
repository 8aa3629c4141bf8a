"""`roiae-server`: the coordinator's and the researcher's command."""

import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from roiae.console.cli import new_app, run_app
from roiae_server.commands import doctor
from roiae_server.commands import enrol as enrol_commands
from roiae_server.commands import run as run_commands

app = new_app()
doctor.register(app)
enrol_commands.register(app)
run_commands.register(app)


@app.callback()
def root() -> None:
    """Coordinate a federation of hospitals, or simulate one on this machine."""


@app.command()
def simulate(
    data: Annotated[Path | None, typer.Option(help="One folder a hospital; phantom hospitals without it.")] = None,
    holdout: Annotated[
        str | None, typer.Option(help="The hospital held out, or each in turn; the last by name without it.")
    ] = None,
    config: Annotated[str | None, typer.Option(help="A YAML file, or a shipped preset: quick.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, for example phase1.rounds=10.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The run's folder; must not exist yet.")] = Path("runs/simulation"),
    engine: Annotated[Literal["local", "ray"], typer.Option(help="In this process, or in Ray workers.")] = "local",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, if there is one.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write event files too.")] = False,
) -> None:
    """Train phantom or real hospitals on this machine through both phases, one of them held out.

    Settings are listed in docs/CONFIGURATION.md, exit codes in docs/FAILURES.md.
    """
    from rich.console import Console

    settings = _settings(config, set_)

    from roiae_lab.simulation import Simulation
    from roiae_lab.simulation import simulate as run

    run(Simulation(settings, data, holdout, out, engine, resume, tensorboard), Console())


@app.command()
def reproduce(
    data: Annotated[Path | None, typer.Option(help="One folder a hospital; phantom hospitals without it.")] = None,
    out: Annotated[Path, typer.Option(help="A new folder, or one to go on in.")] = Path("runs/reproduce"),
    seeds: Annotated[int, typer.Option(min=1, help="How many, from the setting `seed` upwards.")] = 3,
    arms: Annotated[
        list[str] | None, typer.Option(help="What to train beside the method, with commas or repeated; all without it.")
    ] = None,
    other_roi: Annotated[
        Path | None, typer.Option(help="The same frames with boxes round something else; moved boxes without it.")
    ] = None,
    config: Annotated[str | None, typer.Option(help="A YAML file, or a shipped preset: quick.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, for example phase1.rounds=10.")
    ] = None,
) -> None:
    """Hold out every hospital in turn, train every arm with every seed, and judge the paper's claims.

    Takes many hours; repeat the command to go on. docs/REPRODUCE.md has the arms, the tables and the verdicts.
    """
    from rich.console import Console

    settings = _settings(config, set_)

    from roiae_lab.reproduce.command import Reproduction
    from roiae_lab.reproduce.command import reproduce as run

    run(Reproduction(settings, data, other_roi, out, seeds, arms or ["all"]), Console())


@app.command()
def score(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="A finished run's folder.")],
    holdout: Annotated[str, typer.Option(help="A hospital that did not train the run's model.")],
    data: Annotated[
        Path | None, typer.Option(help="One folder a hospital, the run's sources among them; its phantoms without it.")
    ] = None,
) -> None:
    """Repeat the domain-shift scores of a finished run against another held-out hospital, without training."""
    from rich.console import Console

    from roiae_lab.rescore import Rescoring, rescore

    rescore(Rescoring(run, data, holdout), Console())


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run's folder.")],
    to: Annotated[Path | None, typer.Option(metavar="DIR", help="A new folder; RUN/export without it.")] = None,
) -> None:
    """Write a finished run's model for use elsewhere: safetensors, ONNX, an example and a model card."""
    from rich.console import Console

    from roiae_server.report.export import export as write

    write(run, to or run / "export", Console())


def _settings(config: str | None, overrides: list[str] | None) -> dict[str, Any]:
    """What `--config` and `--set` give, nested."""
    from roiae.config import merge, parse_override, read_settings

    layers: list[dict[str, Any]] = [read_settings(_config_path(config))] if config else []
    return merge(*layers, *map(parse_override, overrides or []))


def _config_path(given: str) -> Path:
    """A file of that name, else the shipped preset."""
    preset = Path(str(files("roiae_server") / "presets" / f"{given}.yaml"))
    return preset if not Path(given).exists() and preset.exists() else Path(given)


def main() -> None:
    sys.exit(run_app(app, "roiae-server"))
