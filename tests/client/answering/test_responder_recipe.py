"""The responder against a coordinator that wants one frame: no answer leaves that stands on little."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roiae.config import MinimumConfig, ModelConfig, Role
from roiae.data.site_data import SiteData
from roiae.errors import Reason
from roiae.method.metrics import MEASURES
from roiae.method.rounding import DECIMALS
from roiae.shift.latents import digest
from roiae.site.answers import Site
from roiae.wire.contract import Arrays, EvaluateTask, TrainTask
from roiae_client.answering.gate import Pace
from roiae_client.answering.ledger import LEDGER, Ledger
from roiae_client.answering.responder import Responder
from roiae_client.folder.site_config import Limits, SiteConfig
from tests.client.answering.test_responder import KEY, START, ask_responder
from tests.conftest import MODEL
from tests.signing import TRUSTED

EVALUATE = EvaluateTask(model=MODEL, batch_size=4, threads=1)
KNOWN = {"start_models": (digest(START),)}
MakeDesk = Callable[..., Responder]


@pytest.fixture
def make_desk(tmp_path: Path) -> MakeDesk:
    """A responder over a site, with limits as shipped but for these: (site, number of the responder, **limits)."""

    def make(site: Site, folder: str = "hospital", **limits: Any) -> Responder:
        (tmp_path / folder).mkdir(exist_ok=True)
        own = Limits.model_validate({**KNOWN, **limits})
        config = SiteConfig(name=site.name, role=site.role, data=tmp_path / "none", device="cpu", threads=1, limits=own)
        return Responder(config, KEY, TRUSTED, Ledger(tmp_path / folder / LEDGER), lambda side, config: site)

    return make


def answered(responder: Responder, kind: str, task: TrainTask | EvaluateTask, arrays: Arrays, n: int = 1) -> Any:
    """The metrics of the answer, or the reason why there is none."""
    envelope, _, reply = ask_responder(responder, kind, task.model_dump_json(), arrays, f"r{n}", "a")
    return reply.metrics if reply else envelope.reason


def test_an_update_leaves_without_sums_over_too_few_validation_frames(
    make_site: Callable[..., Site], make_desk: MakeDesk, recipe: TrainTask, initial: Arrays
) -> None:
    few, enough = (make_site("a", train=20, validation=count) for count in (19, 20))

    told = [answered(make_desk(site, str(n)), "train", recipe, initial) for n, site in enumerate((few, enough))]
    assert set(told[1]) - set(told[0]) == {f"validation_{name}" for name in (*MEASURES, "frames")}
    assert "num-examples" in told[0]


@pytest.mark.parametrize(("frames", "reason"), [(1, Reason.NO_FRAMES), (19, Reason.NO_FRAMES), (20, None)])
def test_an_evaluation_of_few_frames_does_not_leave(
    make_site: Callable[..., Site], make_desk: MakeDesk, initial: Arrays, frames: int, reason: Reason | None
) -> None:
    told = answered(make_desk(make_site("a", train=30, validation=frames)), "evaluate", EVALUATE, initial)

    assert told == reason if reason else told["frames"] == frames


def of_one_subject(data: SiteData) -> SiteData:
    """The same frames, all of one subject."""
    train, validation = (replace(of, subjects=("S",) * len(of)) for of in (data.train, data.validation))
    return replace(data, train=train, validation=validation)


@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_many_frames_of_few_subjects_are_few(
    make_site: Callable[..., Site], make_desk: MakeDesk, recipe: TrainTask, initial: Arrays, kind: str
) -> None:
    site = make_site("a", train=24, validation=24)
    task = recipe if kind == "train" else EVALUATE

    told = answered(make_desk(replace(site, data=of_one_subject(site.data))), kind, task, initial)
    assert told == Reason.FEW_SUBJECTS


def test_the_sites_own_limits_hold_however_the_site_was_opened(
    make_site: Callable[..., Site], make_desk: MakeDesk, initial: Arrays
) -> None:
    open_to_all = make_site("a", validation=3, minimum=MinimumConfig(frames=1, subjects=1))

    assert answered(make_desk(open_to_all), "evaluate", EVALUATE, initial) == Reason.NO_FRAMES


def test_what_leaves_is_rounded_so_that_two_sums_do_not_differ_by_a_frame(
    make_site: Callable[..., Site], make_desk: MakeDesk, recipe: TrainTask, initial: Arrays
) -> None:
    told = answered(make_desk(make_site("a", train=20, validation=20)), "train", recipe, initial)

    for name in MEASURES:
        mean = told[f"validation_{name}"] / told["validation_frames"]
        assert mean == pytest.approx(round(mean, DECIMALS[name]), abs=1e-12)
    assert told["loss"] == float(f"{told['loss']:.4g}")
    assert told["frames_a_second"] == float(f"{told['frames_a_second']:.3g}")


@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_the_same_weights_over_data_that_changed_by_one_subject_are_answered_once(
    make_site: Callable[..., Site], make_desk: MakeDesk, recipe: TrainTask, initial: Arrays, kind: str
) -> None:
    site, task = make_site("a", train=24, validation=24), recipe if kind == "train" else EVALUATE
    less = replace(site.data, validation=site.data.validation[1:], fingerprint="less")
    first, second = make_desk(site, "one"), make_desk(replace(site, data=less), "two")

    assert answered(first, kind, task, initial, 1) != Reason.ALREADY_ANSWERED
    assert answered(first, kind, task, initial, 2) != Reason.ALREADY_ANSWERED  # the same data, the same answer
    assert answered(second, kind, task, initial, 3) == Reason.ALREADY_ANSWERED


def test_a_budget_outlives_the_state_folder_and_a_restart(
    make_site: Callable[..., Site], make_desk: MakeDesk, initial: Arrays, tmp_path: Path
) -> None:
    site = make_site("a", role=Role.HELD_OUT, train=20, validation=20)
    limits = {"max_requests": {"evaluate": 2}}
    responder = make_desk(site, **limits)
    assert [answered(responder, "evaluate", EVALUATE, initial, n) == Reason.BUDGET_SPENT for n in (1, 2, 3)] == [
        False, False, True,
    ]  # fmt: skip
    responder._ledger.close()

    again = make_desk(site, **limits)
    assert answered(again, "evaluate", EVALUATE, initial, 4) == Reason.BUDGET_SPENT


def test_a_task_that_would_not_fit_is_refused_before_the_frames_are_read(
    make_site: Callable[..., Site], make_desk: MakeDesk, recipe: TrainTask, initial: Arrays
) -> None:
    class UnreadError(Exception):
        pass

    responder = make_desk(make_site("a"))

    def open_site(side: int, config: SiteConfig) -> Site:
        raise UnreadError

    responder._open_site = open_site
    large = ModelConfig(image_size=4096, width=256, latent_dim=1024)
    assert answered(responder, "train", recipe.model_copy(update={"model": large}), initial) == Reason.TASK_TOO_LARGE


def test_a_held_out_site_reads_no_frame_for_a_training_that_it_refuses(
    make_site: Callable[..., Site], make_desk: MakeDesk, recipe: TrainTask
) -> None:
    """Of any size, without end, and each size stays in the cache: such a refusal spends no budget."""
    opened: list[int] = []
    responder = make_desk(make_site("a", role=Role.HELD_OUT, train=20, validation=20))
    responder._open_site = lambda side, config: opened.append(side)  # type: ignore[assignment,return-value]

    assert answered(responder, "train", recipe, START) == Reason.HELD_OUT
    assert opened == []


def test_weights_made_by_hand_are_not_trained_on_and_the_log_says_which_and_why(
    make_site: Callable[..., Site], make_desk: MakeDesk, recipe: TrainTask, caplog: pytest.LogCaptureFixture
) -> None:
    by_hand = {name: np.full_like(array, 0.5) for name, array in START.items()}

    told = answered(make_desk(make_site("a", train=20, validation=20)), "train", recipe, by_hand)

    assert told == Reason.OFF_COURSE
    assert digest(by_hand) in caplog.text
    assert "farther than a round from the run's own initialisation" in caplog.text


@pytest.mark.parametrize(
    "change", [{"optimizer": "sgd"}, {"learning_rate": 1e6}, {"clip_norm": None}, {"batch_size": 1}]
)
def test_settings_that_single_a_frame_out_are_refused(
    make_site: Callable[..., Site], make_desk: MakeDesk, recipe: TrainTask, initial: Arrays, change: dict[str, Any]
) -> None:
    task = json.loads(recipe.model_dump_json()) | change
    responder = make_desk(make_site("a", train=20, validation=20))

    envelope, _, reply = ask_responder(responder, "train", json.dumps(task), initial, site="a")
    assert (envelope.reason, reply) == (Reason.NOT_ALLOWED, None)


@pytest.mark.parametrize("allowed", [False, True])
def test_weights_that_overflow_for_one_frame_tell_nothing_of_it_and_are_counted(
    make_site: Callable[..., Site], make_desk: MakeDesk, initial: Arrays, allowed: bool
) -> None:
    """Overflow was a threshold on the largest value over all frames, which no rounding hides."""
    site = make_site("a", role=Role.HELD_OUT, train=20, validation=20)
    huge = {name: array * np.float32(1e30 if name.startswith("encoder") else 1) for name, array in initial.items()}
    limits = {"start_models": (digest(huge),)} if allowed else {}
    responder = make_desk(site, max_requests={"evaluate": 2}, **limits)

    told = [answered(responder, "evaluate", EVALUATE, huge, n) for n in range(3)]
    reason = Reason.NOT_FINITE if allowed else Reason.OFF_COURSE
    assert told == [reason, reason, Reason.BUDGET_SPENT]


def test_refusals_without_end_take_a_second_each_and_answers_none(
    make_site: Callable[..., Site], make_desk: MakeDesk, recipe: TrainTask, initial: Arrays
) -> None:
    now, slept = [0.0], list[float]()
    responder = make_desk(make_site("a", train=20, validation=20))
    responder._pace = Pace(2, lambda: now[0], slept.append)
    beyond = recipe.model_copy(update={"optimizer": "sgd"})

    for n in range(4):
        assert answered(responder, "train", beyond, initial, n) == Reason.NOT_ALLOWED
    assert slept == [1.0, 1.0]
    now[0] = 10.0
    assert answered(responder, "train", beyond, initial, 5) == Reason.NOT_ALLOWED
    assert "psnr" in answered(responder, "evaluate", EVALUATE, START, 6)
    assert slept == [1.0, 1.0]
