"""Another user of the same machine gets nothing from the calls that start runs and hand out requests."""

import errno
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from roiae.config import Role
from roiae.identity.keys import create_key
from roiae.process.service import free_port, new_secret, socket_client, socket_folder
from roiae_client.flower.command import supernode_command
from roiae_server.enrolment.coordinator_folder import CoordinatorFolder
from tests.faults.processes import Member, await_that, command
from tests.signing import new_keys

NOBODY = 65534
PROTOBUF = {"content-type": "application/protobuf"}
LISTENS = "0A"  # a TCP state, as /proc has it

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can become another user"),
]


def as_nobody(attempt: Callable[[], object]) -> int:
    """The errno of what another user tries; 0 where it succeeds."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            attempt()
        except OSError as error:
            os._exit(error.errno or 255)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def connecting(path: Path) -> Callable[[], object]:
    def attempt() -> None:
        with socket.socket(socket.AF_UNIX) as plain:
            plain.connect(str(path))

    return attempt


def ports(pids: list[int]) -> set[int]:
    """TCP ports on which these processes listen."""
    inodes = set()
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inodes.add(str(entry.readlink()))
            except FileNotFoundError:
                continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENS and f"socket:[{fields[9]}]" in inodes:
                found.add(int(fields[1].rpartition(":")[2], 16))
    return found


@contextmanager
def started(folder: CoordinatorFolder) -> Iterator[Member]:
    member = Member(folder.path, command("roiae-server", "start", str(folder.path)))
    member.start()
    try:
        yield member
    finally:
        member.kill()


def superlink_socket(member: Member) -> Path | None:
    for pid in member.tree():
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        if "roiae_server.flower.superlink_process" in words:
            return Path(words[words.index("roiae_server.flower.superlink_process") + 2])
    return None


def test_another_user_gets_nothing_from_a_coordinators_control_api(tmp_path: Path) -> None:
    folder = CoordinatorFolder.create(tmp_path / "coordinator", "localhost", free_port(), "test")
    for name, role in {"alpha": Role.SOURCE, "beta": Role.SOURCE, "gamma": Role.HELD_OUT}.items():
        folder.add_site(name, role, new_keys())
    with started(folder) as coordinator:
        path = await_that(lambda: superlink_socket(coordinator), 60, "the SuperLink is started")
        await_that(path.is_socket, 60, "it listens")

        with socket_client(path) as ours:
            assert ours.post("http://superlink/v1/control/list-runs", headers=PROTOBUF).status_code == 200
        assert as_nobody(connecting(path)) == errno.EACCES
        assert as_nobody(lambda: list(path.parent.iterdir())) == errno.EACCES
        await_that(lambda: ports(coordinator.tree()), 60, "the gateway listens")
        assert ports(coordinator.tree()) == {folder.config.port}


def test_another_user_gets_nothing_from_a_hospitals_runtime_api(tmp_path: Path) -> None:
    create_key(tmp_path / "key")
    new_secret(tmp_path / "secret")
    (tmp_path / "ca.crt").write_bytes(
        CoordinatorFolder.create(tmp_path / "c", "localhost", free_port(), "test").ca_certificate.read_bytes()
    )
    with socket_folder() as sockets:
        path = sockets / "supernode"
        key, ca, secret, heard = (tmp_path / name for name in ("key", "ca.crt", "secret", "heard"))
        node = supernode_command(f"localhost:{free_port()}", key, ca, secret, path, heard)
        environment = {**os.environ, "FLWR_HOME": str(tmp_path / "flwr"), "FLWR_TELEMETRY_ENABLED": "0"}
        with subprocess.Popen(node, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                await_that(path.is_socket, 60, "its Runtime API listens")
                time.sleep(0.5)
                with socket_client(path) as ours:
                    assert ours.get("http://supernode/health").status_code == 200
                assert as_nobody(connecting(path)) == errno.EACCES
                assert ports([process.pid]) == set()
            finally:
                process.kill()
