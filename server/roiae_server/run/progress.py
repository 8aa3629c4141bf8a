"""A run as a person follows it: a live line on a terminal, one plain line a step in a pipe or a service's log."""

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from roiae.config import RunConfig
from roiae.console.terminal import say
from roiae_server.run.plan import Step, phase_of, plan
from roiae_server.run.records import Line


class RunProgress:
    """The federation's observer; a context in which the live line stands.

    Args:
        config: of the run: says how much work each step is.
        done: steps that an earlier process completed.
        steps: that are to be done, as `Federation` takes them.
    """

    def __init__(self, console: Console, config: RunConfig, done: int, steps: Sequence[Step] | None = None) -> None:
        self._console, self._config = console, config
        self._work = [_work(step, config) for step in steps or plan(config)]
        self._done = self._done_before = sum(self._work[:done])
        self._began = time.monotonic()
        self._lines: list[Line] = []
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[left]}"),
            console=console, disable=not console.is_terminal, transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task("starting", total=sum(self._work), left="")
        self._bar.update(self._task, completed=self._done)

    def __enter__(self) -> "RunProgress":
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def asked(self, step: Step, sites: list[str]) -> None:
        self._lines = []
        self._bar.update(self._task, description=f"{title(step, self._config)}: {', '.join(sites)}")

    def answered(self, step: Step, line: Line) -> None:
        self._lines.append(line)
        self._bar.update(self._task, description=f"{title(step, self._config)}: {_site(line)}")

    def completed(self, step: Step, done: int, steps: int) -> None:
        self._done = sum(self._work[:done])
        left = _time(self._left()) if done < steps else ""
        self._bar.update(self._task, completed=self._done, left=left)
        if not self._console.is_terminal:
            text = "; ".join([*(_site(line) for line in self._lines), left or "done"])
            say(f"{title(step, self._config)}: {text}", self._console)

    def _left(self) -> float:
        """Seconds, at the pace so far."""
        pace = (time.monotonic() - self._began) / (self._done - self._done_before)
        return pace * (sum(self._work) - self._done)


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min left" if seconds >= 60 else "less than a minute left"


def _work(step: Step, config: RunConfig) -> float:
    """Passes over a site's frames, about."""
    return 0.2 + phase_of(step.arm, config).local_epochs if step.trains else 0.5


def title(step: Step, config: RunConfig) -> str:
    """A step as a person reads it."""
    if step.name == "score":
        return f"score of {step.arm}"
    if step.name == "shift":
        return "domain shift"
    return f"{step.name} round {step.round}/{phase_of(step.arm, config).rounds}"


def _site(line: Line) -> str:
    metrics = line.metrics
    if line.reason:
        return f"{line.site} {line.status}: {line.reason}"
    if "loss" in metrics:
        told = f"{line.site} loss {metrics['loss']:.4f}, {metrics['frames_a_second']:.0f} frames/s"
        received = metrics.get("validation_psnr")  # absent where too few frames stand behind it
        return told if received is None else f"{told}, received {received:.2f} dB"
    if "psnr" in metrics:
        return f"{line.site} {metrics['psnr']:.2f} dB"
    return f"{line.site} {next(iter(metrics.values())):.0f} frames"
