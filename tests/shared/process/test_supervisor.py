import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from roiae.process import supervisor
from roiae.process.supervisor import Service, Supervisor


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def until(what: Callable[[], bool], seconds: float = 10) -> Callable[[], bool]:
    """A tick that stops when something is so; fails if that takes too long."""
    deadline = time.monotonic() + seconds

    def tick() -> bool:
        assert time.monotonic() < deadline
        return not what()

    return tick


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "BACK_OFF", (0.02, 0.05))
    monkeypatch.setattr(supervisor, "TICK_SECONDS", 0.01)


def alive(pid: int) -> bool:
    """Whether it still runs: one that was killed may wait to be collected, or go while it is looked at."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pids: list[int], seconds: float = 5.0) -> bool:
    """Whether all of them end soon: who is killed with its group takes a moment on a busy machine."""
    end = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.01)
    return not any(map(alive, pids))


def test_a_service_that_ends_is_started_again(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    service = Service("one", python(f"open({str(starts)!r}, 'a').write('x')"))

    with Supervisor([service], tmp_path / "log") as running:
        assert running.run(until(lambda: starts.exists() and len(starts.read_text()) >= 3)) is None


def test_services_that_are_started_together_are_made_anew(tmp_path: Path) -> None:
    """As with a port that another program has taken: the next start has another."""
    starts, numbers = tmp_path / "starts", count(1)

    def services() -> list[Service]:
        said = f"open({str(starts)!r}, 'a').write('{next(numbers)} '); import time; time.sleep"
        return [Service("brief", python(f"{said}(0.5)")), Service("lasting", python(f"{said}(60)"))]

    with Supervisor(services(), tmp_path / "log", together=services) as running:
        running.run(until(lambda: starts.exists() and starts.read_text().split()[:4] == ["1", "1", "2", "2"]))


@pytest.mark.parametrize(("code", "starts"), [(1, "xx"), (76, "x")], ids=["at work", "idle"])
def test_services_that_belong_together_are_started_anew_together(tmp_path: Path, code: int, starts: str) -> None:
    begun, endings = tmp_path / "begun", tmp_path / "endings"
    lasting = Service("lasting", python(f"open({str(begun)!r}, 'a').write('x'); import time; time.sleep(60)"))
    ends_once = f"import os, time; os.path.exists({str(endings)!r}) and time.sleep(60); open({str(endings)!r}, 'w')"
    brief = Service(
        "brief", python(f"import time; time.sleep(0.5); {ends_once}; exit({code})"), idle=lambda it: it == 76
    )

    with Supervisor([lasting, brief], tmp_path / "log", together=lambda: [lasting, brief]) as running:
        running.run(until(endings.exists))
        running.run(until(lambda: begun.read_text() == starts))
        ticks = iter(range(50))
        running.run(lambda: next(ticks, None) is not None)

    assert begun.read_text() == starts


def test_work_that_is_over_ends_the_run_with_its_code_and_is_not_started_again(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    done = Service("done", python(f"open({str(starts)!r}, 'a').write('x'); exit(3)"), final=lambda code: code == 3)

    with Supervisor([done], tmp_path / "log") as running:
        assert running.run(until(lambda: False)) == 3
        ticks = iter(range(20))
        assert running.run(lambda: next(ticks, None) is not None) is None

    assert starts.read_text() == "x"


def test_what_a_service_prints_is_in_its_log_and_echoed_where_asked(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    loud = Service("loud", python("print('heard')"), final=lambda code: True, echo=True)

    with Supervisor([loud], tmp_path / "log") as running:
        running.run(until(lambda: False))
        running.run(until(lambda: (tmp_path / "log" / "loud.log").read_text() == "heard\n"))

    assert capfd.readouterr().out == "heard\n"


def test_leaving_ends_services_and_what_they_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = (
        "import os, subprocess, sys, time; child = subprocess.Popen(['sleep', '60']);"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}'); time.sleep(60)"
    )

    with Supervisor([Service("parent", python(code))], tmp_path / "log") as running:
        running.run(until(lambda: pids.exists() and len(pids.read_text().split()) == 2))
        family = [int(pid) for pid in pids.read_text().split()]
        assert all(map(alive, family))

    assert gone(family)


def test_a_service_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 0.2)
    ready = tmp_path / "ready"
    code = f"import signal, time; signal.signal(15, signal.SIG_IGN); open({str(ready)!r}, 'w'); time.sleep(60)"

    with Supervisor([Service("deaf", python(code))], tmp_path / "log") as running:
        running.run(until(ready.exists))
        began = time.monotonic()

    assert time.monotonic() - began < 5


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_killed_supervisor_leaves_nothing_behind(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    child = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    code = (
        "from pathlib import Path; from roiae.process.supervisor import Service, Supervisor; import sys\n"
        f"service = Service('child', (sys.executable, '-c', {child!r}))\n"
        f"with Supervisor([service], Path({str(tmp_path / 'log')!r})) as running: running.run()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        deadline = time.monotonic() + 10
        while not (pid.exists() and pid.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()

    deadline = time.monotonic() + 5
    while alive(int(pid.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_a_child_prints_is_one_bounded_printable_line_in_log_and_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Flower's own processes log what a peer wrote."""
    hostile = "\x1b[2J\u202eall well\r\x9b31m" + "k" * 1_000_000
    printing = f"print({hostile[:20]!r} + 'k' * 1_000_000); print('end'); import time; time.sleep(60)"
    log = tmp_path / "log" / "one.log"

    with Supervisor([Service("one", python(printing), echo=True)], tmp_path / "log") as running:
        assert running.run(until(lambda: log.exists() and "end" in log.read_text())) is None

    for said in (log.read_text(), capfd.readouterr().out):
        first, second = said.splitlines()
        assert first.isprintable() and len(first) <= supervisor.LINE_CHARACTERS
        assert second == "end"


def test_an_exit_code_is_said_in_words_where_they_are_known(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    service = Service("node", python("raise SystemExit(76)"), meaning=lambda code: "not let in" if code == 76 else "")
    with Supervisor([service], tmp_path / "log") as running:
        running.run(until(lambda: bool(caplog.records)))
    assert "node ended with code 76 (not let in) and is started again" in caplog.text
