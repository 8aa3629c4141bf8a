"""`roiae-client init`, `join` and `rotate`: a hospital's keys, and the federation it is for."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from roiae.console.terminal import say
from roiae_client.folder.hospital_folder import HospitalFolder
from roiae_client.folder.site_config import SITE_CONFIG

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The hospital's folder.")]


def register(app: typer.Typer) -> None:
    for command in (init, join, rotate):
        app.command()(command)


def init(
    folder: Folder,
    name: Annotated[str, typer.Option(help="This hospital's name: small letters, digits, hyphens.")],
    data: Annotated[
        Path | None, typer.Option(help="The folder with manifest.csv and its images; DIR/data without it.")
    ] = None,
) -> None:
    """Make a hospital's folder: its settings and its keys. Nothing is sent anywhere."""
    site, typed = HospitalFolder.create(folder, name, data), shlex.quote(str(folder))
    say(
        f"{folder} is ready. The private keys in it never leave this machine. The fingerprint of both keys:\n"
        f"\n  {site.fingerprint}\n"
        "\nNext:\n"
        f"1. Read {folder / SITE_CONFIG} and change what this hospital does not allow. Its images: {site.config.data}\n"
        f"2. Send {site.public_keys} to the coordinator, and compare the fingerprint over the telephone.\n"
        f"3. The coordinator types   roiae-server add-site DIR {site.public_keys.name} --role source\n"
        f"   (or --role held-out), sends back {name}.kit.zip, and reads out the CA's fingerprint F.\n"
        f"4. Here again              roiae-client join {typed} {name}.kit.zip --ca-fingerprint F"
    )


def join(
    folder: Folder,
    kit: Annotated[Path, typer.Argument(metavar="KIT", help="The .kit.zip that the coordinator sent.")],
    ca_fingerprint: Annotated[str, typer.Option(help="Of the CA, as the coordinator read it over the telephone.")],
) -> None:
    """Accept a coordinator's kit, if it is the coordinator's and for this hospital. Nothing is sent anywhere."""
    joined, typed = HospitalFolder.open(folder).join(kit, ca_fingerprint), shlex.quote(str(folder))
    say(
        f"{joined.site} has joined the federation {joined.federation} at {joined.address} as {joined.role}.\n"
        "\nNext:\n"
        f"1. roiae-client check {typed}    # every image, as a run would read it\n"
        f"2. roiae-client doctor {typed}   # the network, the clock, the disk\n"
        f"3. roiae-client start {typed}    # takes part from now on, until it is stopped"
    )


def rotate(folder: Folder) -> None:
    """Make new keys in the old ones' place; the coordinator has to enrol them before this hospital takes part again."""
    site = HospitalFolder.open(folder)
    site.rotate()
    role = site.config.role or "source|held-out"
    name, typed = site.config.name, shlex.quote(str(folder))
    say(
        "The old keys are gone. The fingerprint of the new ones:\n"
        f"\n  {site.fingerprint}\n"
        "\nNext:\n"
        f"1. Send {site.public_keys} to the coordinator, and compare the fingerprint over the telephone.\n"
        f"2. The coordinator types   roiae-server add-site DIR {site.public_keys.name} --role {role} --replace\n"
        f"   and sends back {name}.kit.zip.\n"
        f"3. Here again              roiae-client join {typed} {name}.kit.zip --ca-fingerprint F\n"
        f"4. If it was running       end it as it was started, then roiae-client start {typed}"
    )
