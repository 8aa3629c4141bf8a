"""Every training of an experiment once, by whichever process comes to it first.

Processes at work on one folder know of each other by the locks of its runs alone: what one is at, the others leave.
"""

import time
from collections.abc import Callable, Sequence

from rich.console import Console

from roiae.console.terminal import say
from roiae.errors import ServiceError
from roiae_lab.reproduce.model_run import ModelRun
from roiae_server.report.words import duration

LOOK_AGAIN = 5.0  # seconds until a process with nothing to do looks what the others have done


class Work:
    """What is left to train, and how long it will take.

    Args:
        trainings: all of the experiment, in the order in which they are wanted.
        measure: seconds of an optimiser's step, for the first forecast.
    """

    def __init__(self, trainings: Sequence[ModelRun], measure: Callable[[], float], console: Console) -> None:
        self._left = [training for training in trainings if not _is_done(training)]
        self._of, self._console = len(trainings), console
        say(f"{self._of} trainings, {self._of - len(self._left)} of them done", console)
        self._pace = measure() if self._left else 0.0
        self._steps, self._seconds = 0, 0.0  # of this process

    def finish(self) -> None:
        """Return once every training is done, here or by another process.

        Raises:
            RoiaeError: of a training; those done stay.
        """
        while self._left:
            paths = {training.path for training in self._left}
            ready = (training for training in self._left if training.after not in paths)
            done = next((training for training in ready if self._finish(training)), None)
            if done:
                self._left.remove(done)
            else:
                time.sleep(LOOK_AGAIN)

    def _finish(self, training: ModelRun) -> bool:
        """Whether it is done now; else another process is at it."""
        try:
            if not training.is_done():
                self._announce(training)
                began = time.monotonic()
                training.train(self._console)
                self._steps += training.steps
                self._seconds += time.monotonic() - began
                self._pace = self._seconds / self._steps
        except ServiceError:
            return False
        return True

    def _announce(self, training: ModelRun) -> None:
        steps = sum(later.steps for later in self._left)
        seconds = self._pace * steps
        left = "less than a minute" if seconds < 60 else f"about {duration(seconds)}"
        place = f"training {self._of - len(self._left) + 1} of {self._of}"
        say(f"{place}: {training.name}; {steps} optimiser steps left, {left}", self._console)


def _is_done(training: ModelRun) -> bool:
    try:
        return training.is_done()
    except ServiceError:
        return False
