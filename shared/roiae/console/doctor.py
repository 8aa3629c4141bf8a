"""What both sides' doctors share: findings, how they are shown, and checks of the machine itself."""

import os
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from cryptography import x509
from rich.console import Console
from rich.text import Text

from roiae.console.terminal import say
from roiae.errors import DoctorError

EXPIRES_SOON = 30  # days

# Flower's node authentication takes a signed time stamp that is up to 305 s old and up to 5 s in the future.
LATE_ALLOWED, EARLY_ALLOWED = 300.0, 5.0  # seconds
LATE_NEAR, EARLY_NEAR = 60.0, 3.0  # a Date header can be two seconds old


class Level(StrEnum):
    """Of a finding, of a doctor or of a check."""

    PASS = "PASS"
    WARN = "WARN"  # a person decides
    FAIL = "FAIL"  # a run would stop at it, or give figures that mean nothing


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `fix` says what to do where that is not nothing."""

    level: Level
    what: str
    fix: str = ""


def passed(what: str) -> Finding:
    return Finding(Level.PASS, what)


def warned(what: str, fix: str) -> Finding:
    return Finding(Level.WARN, what, fix)


def failed(what: str, fix: str) -> Finding:
    return Finding(Level.FAIL, what, fix)


def conclude(findings: Iterable[Finding], console: Console, next_step: str) -> None:
    """Print the findings as they are made, and what to do next.

    Raises:
        DoctorError: something would stop this machine.
    """
    colours = {Level.PASS: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}
    failures = 0
    for finding in findings:
        failures += finding.level is Level.FAIL
        line = Text.assemble((finding.level, colours[finding.level]), " ", finding.what)
        console.print(line, soft_wrap=True)
        if finding.fix:
            say(f"     → {finding.fix}", console)
    if failures:
        raise DoctorError(f"{failures} of the checks failed. Mend what FAIL names, then run doctor again.")
    say(f"Next: {next_step}", console)


def check_versions() -> Finding:
    """The installed versions against the ones that roiae pins exactly."""
    pins = dict(line.split("==") for line in requires("roiae") or () if "==" in line and ";" not in line)
    installed = {name: _version(name) for name in pins}
    summary = ", ".join(f"{name} {found}" for name, found in {"roiae": version("roiae"), **installed}.items())
    wrong = [f"{name}=={pin}" for name, pin in pins.items() if installed[name].partition("+")[0] != pin]
    if wrong:
        return failed(f"versions: {summary}", f"pip install {' '.join(wrong)}")
    return passed(f"versions: {summary}")


def check_private(path: Path) -> Finding:
    """A private key is a file that its owner alone can read, and that is this user's to read."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        return failed(f"{path}: {os.strerror(error.errno or 0)}", "restore it from a backup; `init` makes a new one")
    if mode & 0o077:
        return failed(f"{path}: others can read or write this private key (mode {mode:04o})", f"chmod 600 {path}")
    if not os.access(path, os.R_OK):
        return failed(f"{path}: this user cannot read it", "run as the user that the key belongs to")
    return passed(f"{path}: private, mode {mode:04o}")


def check_own_folder(path: Path) -> Finding:
    """A folder that holds a key is no one else's to write."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o022:
        return failed(f"{path}: others can write this folder (mode {mode:04o})", f"chmod go-w {path}")
    if not os.access(path, os.W_OK):
        return failed(f"{path}: this user cannot write it", "run as the user that the folder belongs to")
    return passed(f"{path}: this user's own, mode {mode:04o}")


def check_expiry(name: str, end: datetime, renew: str) -> Finding:
    """Days that a certificate still holds.

    Args:
        end: aware of its time zone.
        renew: what to do when it is near.
    """
    days = (end - datetime.now(UTC)).total_seconds() / 86_400
    if days < 0:
        return failed(f"{name} expired {end:%Y-%m-%d}", renew)
    if days < EXPIRES_SOON:
        return warned(f"{name} expires in {days:.0f} days, on {end:%Y-%m-%d}", renew)
    return passed(f"{name} holds {days:.0f} days, until {end:%Y-%m-%d}")


def check_clock(date_header: str | None, now: float) -> Finding:
    """This machine's clock against the coordinator's.

    Args:
        date_header: of the coordinator's answer, to the second.
        now: this machine's time when the answer came, seconds since 1970.
    """
    try:
        theirs = parsedate_to_datetime(date_header or "").timestamp() + 0.5  # the header is cut to whole seconds
    except ValueError:
        return warned("clock: the coordinator's answer says no time", "compare both clocks by hand")
    ahead = now - theirs
    what = f"clock: {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the coordinator's"
    fix = "switch time synchronisation on (timedatectl set-ntp true) here, or at the coordinator if its clock is wrong"
    if ahead > EARLY_ALLOWED or ahead < -LATE_ALLOWED:
        allowed = f"{EARLY_ALLOWED:.0f} s ahead and {LATE_ALLOWED:.0f} s behind"
        return failed(f"{what}; node authentication allows {allowed}", fix)
    if ahead > EARLY_NEAR or ahead < -LATE_NEAR:
        return warned(what, fix)
    return passed(what)


def check_disk(folder: Path, needed: float, what_for: str) -> Finding:
    """Room below a folder, which need not exist yet, for this many bytes."""
    there, free = _disk(folder)
    what = f"disk: {size(free)} free at {there}; forecast {size(needed)} for {what_for}"
    return _enough(what, free, needed, f"make room at {there}")


def free_disk(folder: Path) -> float:
    """Bytes of room below a folder, which need not exist yet."""
    return float(_disk(folder)[1])


def _disk(folder: Path) -> tuple[Path, int]:
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return there, shutil.disk_usage(there).free


def check_memory(needed: float, what_for: str) -> Finding:
    """Memory that this machine, or this container, can still give, against a forecast in bytes."""
    free = available_memory()
    if free is None:
        return warned(f"memory: forecast {size(needed)} for {what_for}", "this system does not say how much is free")
    what = f"memory: {size(free)} available; forecast {size(needed)} for {what_for}"
    return _enough(what, free, needed, "stop other programs, or give this machine more memory")


def size(count: float) -> str:
    """Bytes as a person reads them."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def load_certificates(path: Path) -> list[x509.Certificate] | Finding:
    """The certificates of a PEM file, the leaf first, or why there are none."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        return failed(f"{path}: {os.strerror(error.errno or 0)}", "restore it from a backup or from the kit")
    except ValueError:
        return failed(f"{path}: is not a certificate in PEM", "restore it from a backup or from the kit")


def _enough(what: str, free: float, needed: float, fix: str) -> Finding:
    if free < needed:
        return failed(what, fix)
    return warned(what, fix) if free < 2 * needed else passed(what)


def own_memory() -> float:
    """Bytes that this process holds, and can use again; none where this system does not say."""
    statm = Path("/proc/self/statm")
    return float(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0.0


def available_memory() -> float | None:
    """Bytes that this machine, or this container, can still give; None where this system does not say."""
    meminfo, limit = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")
    if not meminfo.exists():
        return None
    lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
    free = float(lines["MemAvailable"].split()[0]) * 1024
    if limit.exists() and (bound := limit.read_text().strip()).isdigit():
        free = min(free, float(bound) - float(limit.with_name("memory.current").read_text()))
    return free


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"
