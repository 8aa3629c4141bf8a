"""The coordinator's folder and who takes part in its federation."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from roiae.config import Role
from roiae.console.terminal import say
from roiae.identity.certificates import ca_fingerprint, days_left
from roiae.identity.keys import read_public
from roiae.identity.kit import address_of
from roiae_server.enrolment.coordinator_folder import COORDINATOR, FEDERATION, CoordinatorFolder

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The coordinator's folder.")]


def register(app: typer.Typer) -> None:
    for command in (init, add_site, remove_site, sites, renew, backup):
        app.command()(command)


def _typed(path: Path) -> str:
    """A path as a person can paste it into a shell: one with a space is quoted."""
    return shlex.quote(str(path))


def _start_again(coordinator: CoordinatorFolder) -> str:
    from roiae_server.commands.status import start_again

    return start_again(coordinator)


def init(
    folder: Folder,
    host: Annotated[str, typer.Option(help="DNS name or IP address that hospitals connect to.")],
    port: Annotated[int, typer.Option(help="The one public port.")] = 8443,
    name: Annotated[str, typer.Option(help="The federation's name: small letters, digits, hyphens.")] = "federation",
) -> None:
    """Make a coordinator's folder: a CA of its own, the server's certificate, the configuration of a run."""
    coordinator = CoordinatorFolder.create(folder, host, port, name)
    say(
        f"{folder} is ready for {address_of(coordinator.config.host, port)}.\n"
        "It holds the CA's private key: keep it to yourself, and back it up.\n"
        "The CA's fingerprint, which you will read to each hospital over the telephone:\n"
        f"\n  {ca_fingerprint(coordinator.ca_certificate.read_bytes())}\n"
        "\nNext:\n"
        f"1. Read {folder / FEDERATION} and change what the run should do otherwise.\n"
        "2. Each hospital types     roiae-client init DIR --name NAME   and sends you NAME.pub.\n"
        f"3. Here, for each of them  roiae-server add-site {_typed(folder)} NAME.pub --role source\n"
        "   and for the one that is held out, if there is one, --role held-out.\n"
        f"4. When all are enrolled   roiae-server doctor {_typed(folder)}, then roiae-server start {_typed(folder)}"
    )


def add_site(
    folder: Folder,
    public_key: Annotated[Path, typer.Argument(metavar="PUBFILE", help="The .pub file that the hospital sent.")],
    role: Annotated[Role, typer.Option(help="A held-out hospital is scored, and never trains.")],
    name: Annotated[str | None, typer.Option(help="The hospital's name, if its file has lost it.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="The hospital has new keys, or needs its kit again.")
    ] = False,
) -> None:
    """Enrol a hospital by its public keys, and write the kit to send back to it."""
    coordinator = CoordinatorFolder.open(folder)
    keys, comment = read_public(public_key)
    site = name or comment
    kit = (coordinator.replace_keys if replace else coordinator.add_site)(site, role, keys)
    say(
        f"{site} is enrolled as {role}.\n"
        "\nCompare over the telephone, on a number you knew before: the hospital reads the first, you the second.\n"
        f"\n  the keys {keys.fingerprint}"
        f"\n  the CA   {ca_fingerprint(coordinator.ca_certificate.read_bytes())}\n"
        "\nNext:\n"
        f"1. If the first differs    roiae-server remove-site {_typed(folder)} {site}\n"
        f"2. If it is the same       send {kit} to the hospital.\n"
        f"3. The hospital types      roiae-client join DIR {kit.name} --ca-fingerprint F   with the second as F."
    )


def remove_site(folder: Folder, name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """Revoke a hospital's keys at once; no other hospital is touched."""
    role = CoordinatorFolder.open(folder).remove_site(name).role
    say(
        f"{name} is removed, and its keys are refused from now on. What it contributed to completed rounds stays in "
        "the model.\n"
        "\nNext:\n"
        f"1. roiae-server status {_typed(folder)}   # whether enough hospitals are left for a round\n"
        f"2. To take it back         roiae-server add-site {_typed(folder)} {name}.pub --role {role}"
    )


def sites(folder: Folder) -> None:
    """List the enrolled hospitals: name, role, fingerprint of the keys, date."""
    enrolled = CoordinatorFolder.open(folder).sites
    rows = [("name", "role", "fingerprint", "added")]
    rows += [(name, str(site.role), site.keys.fingerprint, f"{site.added}") for name, site in enrolled.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    sources = sum(site.role is Role.SOURCE for site in enrolled.values())
    say(
        f"\nNext: roiae-server add-site {_typed(folder)} NAME.pub --role source   "
        f"# a run needs two sources, here are {sources}"
        if sources < 2
        else f"\nNext: roiae-server status {_typed(folder)}   # which of them are online"
    )


def renew(
    folder: Folder,
    request_key: Annotated[
        bool, typer.Option("--request-key", help="Exchange the key that signs requests, and not the certificate.")
    ] = False,
) -> None:
    """Issue a new server certificate from the same CA, for the host in coordinator.yaml; no hospital notices."""
    coordinator = CoordinatorFolder.open(folder)
    if request_key:
        _renew_request_key(coordinator)
        return
    coordinator.renew()
    server, ca = (days_left(path.read_bytes()) for path in (coordinator.server_certificate, coordinator.ca_certificate))
    say(
        f"The certificate for {coordinator.config.host} ({COORDINATOR}) is good for {server} days, the CA for {ca}.\n"
        "\nNext: a coordinator that is running takes it up when it is started again; the run goes on where it was:\n"
        f"  roiae-server stop {_typed(folder)}\n"
        f"  {_start_again(coordinator)}"
    )


def _renew_request_key(coordinator: CoordinatorFolder) -> None:
    number = coordinator.renew_request_key()
    say(
        f"Request key {number} signs requests from the next start on, and the one before it is gone. No hospital needs "
        "a new kit.\nEach refuses the old key once it has seen a request that is signed with the new one.\n"
        "\nNext: start a coordinator that is running again; the run goes on where it was:\n"
        f"  roiae-server stop {_typed(coordinator.path)}\n"
        f"  {_start_again(coordinator)}"
    )


def backup(
    folder: Folder, to: Annotated[Path, typer.Option(metavar="FILE.tar.gz", help="A new file, not in DIR.")]
) -> None:
    """Copy the CA, the list of hospitals and the runs into one file, also while a run goes on."""
    from roiae_server.service.backup import backup as write_backup

    write_backup(CoordinatorFolder.open(folder), to)
    say(
        f"{to} is written. It holds the private keys of the CA and of requests: whoever has it can pass for "
        "this coordinator, so keep it as you keep DIR.\n"
        "\nNext: to restore it, on this machine or another, into a new folder:\n"
        f"  mkdir -m 700 NEW && tar -xzpf {to} -C NEW\n"
        "  roiae-server sites NEW"
    )
