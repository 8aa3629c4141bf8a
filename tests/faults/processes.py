"""Real processes on loopback: a coordinator and its hospitals, started, killed and looked at as their owners would."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from roiae.config import Role
from roiae.data.phantom import SCANNERS, write_hospital
from roiae.identity.certificates import ca_fingerprint
from roiae.identity.keys import read_public
from roiae.process.service import free_port
from roiae_client.folder.hospital_folder import HospitalFolder
from roiae_server.enrolment.coordinator_folder import CoordinatorFolder
from tests.faults.watch import Watch

SITES = {"alpha": Role.SOURCE, "beta": Role.SOURCE, "gamma": Role.SOURCE, "delta": Role.HELD_OUT}
SOURCES = [site for site, role in SITES.items() if role is Role.SOURCE]
SUBJECTS = 16
SETTINGS: dict[str, Any] = {
    "control": False,
    "model": {"image_size": 192, "width": 16, "latent_dim": 8},
    "phase1": {"rounds": 1, "local_epochs": 4},  # seconds of work, so that there is something to stop
    "phase2": {"rounds": 2, "local_epochs": 4},
    "train": {"batch_size": 8, "threads": 1, "precision": "float32"},
    "privacy": {"min_subjects": 10, "min_scored_frames": 2},
    "minimum": {"frames": 1, "subjects": 1},
    "federation": {"deadline": 300, "grace": 200},
}
SITE_SETTINGS = {"threads": 1, "limits": {"min_frames": 1, "min_subjects": 1}}
LOG_LINES = 40
COMMAND = {
    "roiae-server": "from roiae_server.cli import main; main()",
    "roiae-client": "from roiae_client.cli import main; main()",
}


def command(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", COMMAND[name], *arguments]


def ask(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself, as its user would type it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(
        command(name, *arguments), check=False, capture_output=True, text=True, timeout=60, env=environment
    )


def await_that(what: Callable[[], Any], seconds: float, why: str) -> Any:
    """The first true answer; an AssertionError after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {why}"
        time.sleep(0.02)  # some work lasts a tenth of a second
    return answer


class Member:
    """One coordinator or hospital: its folder, and its process when it runs."""

    def __init__(self, folder: Path, arguments: list[str]) -> None:
        self.folder, self._arguments = folder, arguments
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, cwd: Path | None = None) -> None:
        assert self.process is None
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        with self._out.open("ab") as out:
            self.process = subprocess.Popen(self._arguments, stdout=out, stderr=out, env=environment, cwd=cwd)

    def kill(self) -> None:
        """kill -9 of the whole tree, the parent first: as a power cut, as far as a process can tell."""
        assert self.process
        for pid in self.tree():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
        self.process = None

    def end(self) -> int:
        """SIGTERM, as systemd and Ctrl-C do; the exit code."""
        assert self.process
        self.process.terminate()
        return self.ended(40)

    def tree(self) -> list[int]:
        """Process ids of it and all that it started, itself first."""
        assert self.process
        return [self.process.pid, *_descendants(self.process.pid)]

    def part(self, *words: str) -> int:
        """The process id of the one below it whose command line has all these words."""
        (found,) = (pid for pid in self.tree() if all(word in _command_line(pid) for word in words))
        return found

    def ended(self, seconds: float) -> int:
        """Wait for the process to end by itself."""
        assert self.process
        code = self.process.wait(seconds)
        self.process = None
        return code

    @property
    def printed(self) -> str:
        return self._out.read_text()

    @property
    def _out(self) -> Path:
        return self.folder.with_suffix(".out")


def _command_line(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found = list(children.get(pid, []))
    for child in found:
        found += children.get(child, [])
    return found


class RealFederation:
    """A coordinator and four enrolled hospitals, none of them started yet.

    Args:
        hospital_port: where hospitals connect to, if not to the coordinator itself.
    """

    def __init__(
        self,
        root: Path,
        data: Path,
        settings: Mapping[str, Any] = SETTINGS,
        sites: Mapping[str, Role] = SITES,
        hospital_port: int | None = None,
    ) -> None:
        self.root, self.data, self.port = root, data, free_port()
        folder = CoordinatorFolder.create(root / "coordinator", "localhost", hospital_port or self.port, "faults")
        self.folder = folder
        fingerprint = ca_fingerprint(folder.ca_certificate.read_bytes())
        self.hospitals: dict[str, Member] = {}
        for name, role in sites.items():
            hospital = HospitalFolder.create(root / name, name, data / name)
            kit = folder.add_site(name, role, read_public(hospital.public_keys)[0])
            hospital.join(kit, fingerprint)
            self.change_site(name, SITE_SETTINGS)
            self.hospitals[name] = Member(root / name, command("roiae-client", "start", str(root / name)))
        (folder.path / "federation.yaml").write_text(yaml.safe_dump(dict(settings)))
        if hospital_port:
            self._listen_on(self.port)
        self.coordinator = Member(folder.path, command("roiae-server", "start", str(folder.path)))
        self.watch = Watch(self)

    def change_site(self, name: str, changes: Mapping[str, Any]) -> None:
        """Lay settings over a hospital's site.yaml."""
        path = self.root / name / "site.yaml"
        site = yaml.safe_load(path.read_text())
        for key, value in changes.items():
            site[key] = {**site[key], **value} if isinstance(value, Mapping) else value
        path.write_text(yaml.safe_dump(site))

    def _listen_on(self, port: int) -> None:
        path = self.folder.path / "coordinator.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "port": port}))

    def start(self) -> None:
        self.coordinator.start()
        for hospital in self.hospitals.values():
            hospital.start()

    def stop(self) -> None:
        for member in (self.coordinator, *self.hospitals.values()):
            if member.process:
                member.kill()

    def print_logs(self) -> None:
        """The end of what everybody said, for the report of a test that failed."""
        for log in sorted([*self.root.glob("*.out"), *self.root.glob("*.log"), *self.root.glob("*/log/*.log")]):
            print(f"--- {log.relative_to(self.root)}", *log.read_text().splitlines()[-LOG_LINES:], sep="\n")

    @property
    def run(self) -> Path:
        return self.folder.runs / "first"

    @property
    def state(self) -> dict[str, Any]:
        """state.json, which is whole at every moment, or absent before the first start."""
        path = self.run / "state.json"
        return dict(json.loads(path.read_bytes())) if path.exists() else {"completed": 0, "status": "running"}

    @property
    def status(self) -> dict[str, Any]:
        path = self.folder.path / "status.json"
        return dict(json.loads(path.read_bytes())) if path.exists() else {"sites": {}, "step": "", "state": ""}

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.run / "rounds.jsonl").read_text().splitlines()]

    def online(self, site: str) -> bool:
        return bool(self.status["sites"].get(site, {}).get("online"))

    def asked(self, site: str) -> bool:
        """Whether the site has a request in hand, as the coordinator sees it."""
        return bool(self.status["sites"].get(site, {}).get("last") == "asked")

    def work(self, site: str) -> str:
        """The kind of request that the site itself is answering; empty between two."""
        try:
            activity = json.loads((self.root / site / "state" / "activity.json").read_bytes())
        except FileNotFoundError:
            return ""
        return "" if activity["done"] else str(activity["request"])

    def at_work(self, site: str) -> bool:
        return self.work(site) != ""

    def forget_work(self, site: str) -> None:
        """Of a hospital that was killed: what it does from now on is new work."""
        (self.root / site / "state" / "activity.json").unlink(missing_ok=True)

    def has_work(self, site: str) -> bool:
        """Whether the site has got something to answer since it was started, or `forget_work`."""
        return (self.root / site / "state" / "activity.json").exists()

    def await_completed(self, steps: int, seconds: float = 600) -> None:
        await_that(lambda: self.state["completed"] >= steps, seconds, f"{steps} completed steps, {self.state}")

    def finish(self, seconds: float = 900) -> int:
        return self.coordinator.ended(seconds)

    def reasons(self, site: str) -> set[str]:
        """Why this site did not count, over all that it was asked but for the shift queries."""
        return {line["reason"] for line in self.lines if line["site"] == site and line["step"] != "shift"} - {None}

    def rounds_lost(self, excluded: str = "") -> int:
        """Rounds of training that lack an update of a hospital which was not excluded, or had to be trained again."""
        trained = [line for line in self.lines if line["step"] in ("phase1", "phase2") and line["site"] != excluded]
        return len({(line["step"], line["round"]) for line in trained if line["status"] != "aggregated"})

    def weights(self) -> dict[str, bytes]:
        return weights(self.run)


MODELS = ("phase1.safetensors", "phase2.safetensors")


def weights(run: Path) -> dict[str, bytes]:
    return {name: (run / "checkpoints" / name).read_bytes() for name in MODELS}


@contextmanager
def running(federation: RealFederation) -> Iterator[RealFederation]:
    try:
        with federation.watch:
            federation.start()
            yield federation
        assert not federation.watch.torn
    except BaseException:
        federation.print_logs()
        raise
    finally:
        federation.stop()


def write_data(folder: Path, subjects: int = SUBJECTS) -> None:
    for index, (name, scanner) in enumerate(zip(SITES, SCANNERS, strict=False)):
        write_hospital(folder / name, scanner, subjects=subjects, seed=index)


def simulate(folder: Path, data: Path, cache: Path, settings: Mapping[str, Any] = SETTINGS) -> dict[str, bytes]:
    """The weights of the same run on one machine, with no network and no fault."""
    config = folder.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(dict(settings)))
    arguments = ["simulate", "--data", str(data), "--holdout", "delta", "--config", str(config), "--out", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ROIAE_CACHE": str(cache)}
    subprocess.run(command("roiae-server", *arguments), check=True, env=environment, capture_output=True)
    return weights(folder)
