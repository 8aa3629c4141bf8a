import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roiae.config import Role, RunConfig
from roiae.errors import CalibrationError, QuorumError, Reason
from roiae.wire.contract import Arrays, EvaluateTask, Reply, Request, TrainTask
from roiae.wire.upload import packed_reply
from roiae_server.run.federation import Federation
from roiae_server.run.plan import plan
from roiae_server.run.run_folder import RunFolder, RunState
from roiae_server.run.transport import Outcome
from tests.server.conftest import START, MeanAggregator, ScriptedTransport, Silent, honest

Federate = Callable[..., Path]
Lines = Callable[[Path], list[dict[str, Any]]]
CHECKPOINTS = ("phase1.safetensors", "phase2.safetensors", "control.safetensors")


def weights(run: Path) -> list[bytes]:
    return [(run / "checkpoints" / name).read_bytes() for name in CHECKPOINTS]


def status(run: Path) -> tuple[str, str | None]:
    state = json.loads((run / "state.json").read_text())
    return state["status"], state["reason"]


def test_a_run_asks_each_step_of_the_right_sites(federate: Federate, read_lines: Lines) -> None:
    run = federate(ScriptedTransport())

    asked = Counter((line["step"], line["site"]) for line in read_lines(run))
    for source in ("a", "bb", "ccc"):
        assert {step: asked[step, source] for step in ("phase1", "phase2", "control", "score")} == {
            "phase1": 3, "phase2": 2, "control": 2, "score": 3,
        }  # fmt: skip
    assert {step for step, site in asked if site == "dddd"} == {"score", "shift"}
    assert status(run) == ("done", None)


def test_phase_2_opens_with_equal_weights_and_goes_on_with_the_calibrated_ones(federate: Federate) -> None:
    transport = ScriptedTransport()

    federate(transport)

    tasks = [request.task for site, request in transport.asked if site == "a"]
    phase1, equal = {"ms_ssim": 1.0}, {"ms_ssim": 1.0, "roi_l1": 1.0, "roi_edge": 1.0}
    calibrated = {"ms_ssim": 1.0, "roi_l1": 0.5, "roi_edge": 0.5}
    train = [task for task in tasks if isinstance(task, TrainTask)]
    assert [task.weights for task in train] == [*[phase1] * 3, equal, calibrated, *[phase1] * 2]
    assert [task.measure for task in train] == [False] * 3 + [True] + [False] * 3


def test_sites_train_in_float32_where_a_phase_begins_and_then_in_the_runs_precision(
    federate: Federate, config: RunConfig
) -> None:
    transport = ScriptedTransport()
    train = config.train.model_copy(update={"precision": "bfloat16"})

    federate(transport, config=config.model_copy(update={"train": train}))

    tasks = [request.task for site, request in transport.asked if site == "a"]
    by_round = [task.precision for task in tasks if isinstance(task, TrainTask)]
    first, rest = "float32", "bfloat16"
    assert by_round == [*(first, rest, rest), *(first, rest), *(first, rest)]  # phase 1, phase 2, control


def test_weights_that_are_set_by_hand_are_trained_with_and_not_calibrated(
    federate: Federate, config: RunConfig
) -> None:
    transport, by_hand = ScriptedTransport(), {"ms_ssim": 1.0, "roi_l1": 3.0, "roi_edge": 0.3}
    phase2 = config.phase2.model_copy(update={"weights": by_hand})

    federate(transport, config=config.model_copy(update={"phase2": phase2}))

    tasks = [request.task for _, request in transport.asked]
    train = [task for task in tasks if isinstance(task, TrainTask)]
    assert by_hand in [task.weights for task in train]
    assert not any(task.measure for task in train)


def test_one_source_alone_trains_through_the_first_steps_of_the_plan(tmp_path: Path, config: RunConfig) -> None:
    transport = ScriptedTransport()
    steps = plan(config)[:5]
    folder = RunFolder.create(tmp_path / "alone", config, RunState({"a": Role.SOURCE}, {}, {}))
    with closing(folder):
        Federation(folder, transport, MeanAggregator, lambda: START, Silent(), steps, quorum=1).run()

    assert {site for site, _ in transport.asked} == {"a"}
    assert len(transport.asked) == 5
    assert status(tmp_path / "alone") == ("done", None)


def test_phase_2_and_its_control_start_from_phase_1_with_equal_seeds_and_rates(federate: Federate) -> None:
    transport = ScriptedTransport()

    federate(transport)

    tasks = [(request.task, request.arrays) for site, request in transport.asked if site == "a"]
    train = [(task, arrays) for task, arrays in tasks if isinstance(task, TrainTask)]
    (phase2, phase2_start), (control, control_start) = train[3], train[5]
    assert (phase2.round, phase2.learning_rate) == (control.round, control.learning_rate) == (4, control.learning_rate)
    np.testing.assert_array_equal(phase2_start["w"], control_start["w"])


def test_files_for_machines_have_their_stable_keys(federate: Federate, read_lines: Lines) -> None:
    run = federate(ScriptedTransport())

    calibration = json.loads((run / "calibration.json").read_text())
    assert set(calibration) == {"weights", "magnitudes", "frames", "global", "spread"}
    quality = json.loads((run / "quality.json").read_text())
    assert set(quality) == {"phase1", "phase2", "control"}
    assert quality["phase2"]["dddd"] == {
        "psnr": 10.0, "ms_ssim": 0.25, "roi_mae": 0.05, "roi_edge_mae": 0.1, "frames": 2,
        "nt_frames": 2, "nt_px": 0.5, "nt_mm_frames": 1, "nt_mm": 0.25, "nt_one_sided": 0,
    }  # fmt: skip
    assert set(read_lines(run)[0]) == {
        "step", "round", "site", "status", "reason", "metrics", "seconds", "bytes_out", "bytes_in",
    }  # fmt: skip


@pytest.mark.parametrize("crash_after", range(0, 31, 3))
def test_a_run_that_breaks_anywhere_resumes_to_the_same_bytes(
    federate: Federate, read_lines: Lines, crash_after: int
) -> None:
    unbroken = federate(ScriptedTransport(), "unbroken")

    with pytest.raises(KeyboardInterrupt):
        federate(ScriptedTransport(), "broken", crash_after)
    broken = federate(ScriptedTransport(), "broken")

    assert weights(broken) == weights(unbroken)
    assert read_lines(broken) == read_lines(unbroken)


def test_a_finished_run_asks_nothing_more(federate: Federate) -> None:
    federate(ScriptedTransport())
    again = ScriptedTransport()

    federate(again)

    assert again.asked == []


def damaged(**changes: Any) -> Callable[[str, Request], Reply | Reason]:
    """Site bb's updates with something wrong."""

    def answer(site: str, request: Request) -> Reply | Reason:
        reply = honest(site, request)
        if site == "bb" and isinstance(request.task, TrainTask):
            return replace(reply, **{key: change(getattr(reply, key)) for key, change in changes.items()})
        return reply

    return answer


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"arrays": lambda a: {"w": a["w"] * np.nan}}, Reason.NOT_FINITE),
        ({"arrays": lambda a: {"w": a["w"] + np.inf}}, Reason.NOT_FINITE),
        ({"arrays": lambda a: {"w": a["w"] + 1e4}}, Reason.TOO_LARGE),
        ({"arrays": lambda a: {}}, Reason.ARRAYS_MISMATCH),
        ({"arrays": lambda a: {"w": a["w"][:2]}}, Reason.ARRAYS_MISMATCH),
        ({"arrays": lambda a: {"w": a["w"].astype(np.float64)}}, Reason.ARRAYS_MISMATCH),
        ({"arrays": lambda a: {**a, "extra": a["w"]}}, Reason.ARRAYS_MISMATCH),
        ({"metrics": lambda m: m | {"num-examples": 0.0}}, Reason.NO_FRAMES),
        ({"metrics": lambda m: m | {"num-examples": -5.0}}, Reason.NO_FRAMES),
        ({"metrics": lambda m: m | {"num-examples": 100_001.0}}, Reason.MANY_FRAMES),
        ({"metrics": lambda m: m | {"num-examples": 1.5}}, Reason.BAD_METRICS),
        ({"metrics": lambda m: m | {"loss": float("nan")}}, Reason.BAD_METRICS),
        ({"metrics": lambda m: m | {"frame_0001.png": 1.0}}, Reason.BAD_METRICS),
        ({"metrics": lambda m: m | {"validation_frames": 0.0}}, Reason.NO_FRAMES),
    ],
)
def test_a_bad_update_is_refused_by_name_and_the_round_goes_on(
    federate: Federate, read_lines: Lines, tmp_path: Path, damage: dict[str, Any], reason: Reason
) -> None:
    run = ended_without_bb(federate, ScriptedTransport(damaged(**damage)), tmp_path / "run")

    refused = [line for line in read_lines(run) if line["status"] == "refused"]
    assert {(line["site"], line["reason"], str(line["metrics"])) for line in refused} == {("bb", reason, "{}")}
    without = ScriptedTransport(
        lambda site, request: Reason.NO_REPLY if trains(site, request) else honest(site, request)
    )
    assert weights(run) == weights(ended_without_bb(federate, without, tmp_path / "without"))


@pytest.mark.parametrize("magnitude", [None, float("nan"), 0.0, -1.0, 1e308])
def test_a_site_that_tells_no_magnitude_has_no_part_in_the_weights(
    federate: Federate, read_lines: Lines, magnitude: float | None
) -> None:
    def answer(site: str, request: Request) -> Reply | Reason:
        reply = honest(site, request)
        if site != "bb" or "gradient_roi_l1" not in reply.metrics:
            return reply
        told = {name: value for name, value in reply.metrics.items() if name != "gradient_roi_l1"}
        return replace(reply, metrics=told if magnitude is None else told | {"gradient_roi_l1": magnitude})

    run = federate(ScriptedTransport(answer))

    (refused,) = [line for line in read_lines(run) if line["status"] == "refused"]
    assert (refused["step"], refused["round"], refused["site"]) == ("phase2", 1, "bb")
    assert set(json.loads((run / "calibration.json").read_text())["magnitudes"]) == {"a", "ccc"}


def ended_without_bb(federate: Federate, transport: ScriptedTransport, path: Path) -> Path:
    """The folder of a run to which bb never contributed: complete, and no success."""
    for _ in range(2):  # resumed, it says the same
        with pytest.raises(QuorumError, match="bb never contributed"):
            federate(transport, path.name)
    assert json.loads((path / "state.json").read_text())["status"] == "incomplete"
    return path


def trains(site: str, request: Request) -> bool:
    return site == "bb" and isinstance(request.task, TrainTask)


def test_updates_are_folded_by_name_in_whatever_order_they_come(
    federate: Federate, monkeypatch: pytest.MonkeyPatch
) -> None:
    folded: list[float] = []
    add = MeanAggregator.add

    def noting(self: MeanAggregator, arrays: Arrays, weight: float) -> None:
        folded.append(arrays["w"][0])
        add(self, arrays, weight)

    class Backwards(ScriptedTransport):
        def exchange(self, requests: Mapping[str, Request]) -> Iterator[Outcome]:
            return super().exchange({site: requests[site] for site in sorted(requests, reverse=True)})

    monkeypatch.setattr(MeanAggregator, "add", noting)

    federate(Backwards())

    assert folded[:3] == [2.0, 3.0, 4.0]  # of a, bb and ccc, see `honest`


def test_a_half_precision_update_is_added_to_what_was_sent(federate: Federate, config: RunConfig) -> None:
    federation = config.federation.model_copy(update={"upload": "float16"})

    def difference(site: str, request: Request) -> Reply | Reason:
        return packed_reply(request, honest(site, request))

    run = federate(ScriptedTransport(difference), config=config.model_copy(update={"federation": federation}))

    assert weights(run) == weights(federate(ScriptedTransport(), "whole"))


def test_whole_weights_where_half_was_asked_for_are_refused(federate: Federate, config: RunConfig) -> None:
    federation = config.federation.model_copy(update={"upload": "float16"})

    def answer(site: str, request: Request) -> Reply | Reason:
        reply = honest(site, request)
        return reply if site == "a" else packed_reply(request, reply)

    with pytest.raises(QuorumError, match="a never contributed"):
        federate(ScriptedTransport(answer), config=config.model_copy(update={"federation": federation}))


def test_a_missing_site_is_recorded_and_asked_again_next_round(federate: Federate, read_lines: Lines) -> None:
    def answer(site: str, request: Request) -> Reply | Reason:
        away = site == "a" and isinstance(request.task, TrainTask) and request.task.round == 2
        return Reason.NO_REPLY if away else honest(site, request)

    run = federate(ScriptedTransport(answer))

    of_a = [(line["round"], line["status"], line["reason"]) for line in read_lines(run) if line["site"] == "a"][:3]
    assert of_a == [(1, "aggregated", None), (2, "missing", "no-reply"), (3, "aggregated", None)]


def test_below_the_quorum_the_run_fails_with_the_reason_and_can_be_resumed(
    federate: Federate, read_lines: Lines
) -> None:
    def away(site: str, request: Request) -> Reply | Reason:
        gone = site != "a" and isinstance(request.task, TrainTask) and request.task.round == 2
        return Reason.NO_REPLY if gone else honest(site, request)

    with pytest.raises(QuorumError, match=r"phase1 round 2: 1 of 3 .* 2 are needed: bb \(no-reply\), ccc \(no-reply\)"):
        federate(ScriptedTransport(away))
    run = federate(ScriptedTransport())

    assert status(run) == ("done", None)
    assert weights(run) == weights(federate(ScriptedTransport(), "unbroken"))
    completed = Counter((li["step"], li["round"], li["site"]) for li in read_lines(run) if li["status"] == "aggregated")
    assert set(completed.values()) == {1}
    assert [line["site"] for line in read_lines(run) if line["status"] == "discarded"] == ["a"]


def test_sites_with_too_few_frames_to_tell_their_quality_hold_up_no_score(
    federate: Federate, read_lines: Lines, tmp_path: Path
) -> None:
    def answer(site: str, request: Request) -> Reply | Reason:
        small = site in ("bb", "ccc") and isinstance(request.task, EvaluateTask)
        return (Reason.NO_FRAMES if site == "bb" else Reason.FEW_SUBJECTS) if small else honest(site, request)

    run = federate(ScriptedTransport(answer))

    assert status(run) == ("done", None)
    assert set(json.loads((run / "quality.json").read_text())["phase2"]) == {"a", "dddd"}


@pytest.mark.parametrize(("reason", "refused"), [(Reason.BUDGET_SPENT, True), (Reason.OFFLINE, False)])
def test_a_quorum_that_is_refused_is_known_from_one_that_is_away(
    federate: Federate, reason: Reason, refused: bool
) -> None:
    with pytest.raises(QuorumError) as error:
        federate(ScriptedTransport(lambda site, request: honest(site, request) if site == "a" else reason))

    assert error.value.refused is refused


def test_a_failed_run_says_so_in_its_state(federate: Federate, tmp_path: Path) -> None:
    with pytest.raises(QuorumError):
        federate(ScriptedTransport(lambda site, request: Reason.SITE_FAILED))

    failed, reason = status(tmp_path / "run")
    assert failed == "failed"
    assert reason is not None
    assert "site-failed" in reason


def test_a_larger_quorum_is_kept(federate: Federate, config: RunConfig) -> None:
    federation = config.federation.model_copy(update={"quorum": 3})
    strict = config.model_copy(update={"federation": federation})

    with pytest.raises(QuorumError, match="3 are needed"):
        federate(ScriptedTransport(damaged(arrays=lambda a: {})), config=strict)


@pytest.mark.parametrize(("intruder", "reason"), [("dddd", "held-out-site"), ("stranger", "not-asked")])
def test_an_update_that_nobody_asked_for_is_dropped(
    federate: Federate, read_lines: Lines, intruder: str, reason: str
) -> None:
    def forged(site: str, request: Request) -> Reply | Reason:
        return replace(honest("a", request), arrays={"w": np.full(3, 1e6, dtype=np.float32)})

    run = federate(ScriptedTransport(uninvited={intruder: forged}))

    lines = [line for line in read_lines(run) if line["site"] == intruder and line["step"] == "phase1"]
    assert {(line["status"], line["reason"]) for line in lines} == {("refused", reason)}
    assert weights(run) == weights(federate(ScriptedTransport(), "alone"))


def test_a_second_answer_of_one_site_is_dropped(federate: Federate, read_lines: Lines) -> None:
    run = federate(ScriptedTransport(uninvited={"a": honest}))

    lines = [line for line in read_lines(run) if line["site"] == "a" and line["step"] == "phase1"]
    assert [line["status"] for line in lines[:2]] == ["aggregated", "refused"]


def test_a_held_out_site_that_does_not_answer_stops_the_score(federate: Federate) -> None:
    with pytest.raises(QuorumError, match="held-out site dddd"):
        federate(ScriptedTransport(lambda site, request: Reason.NO_REPLY if site == "dddd" else honest(site, request)))


def test_unusable_magnitudes_stop_the_run_with_the_reason(federate: Federate, tmp_path: Path) -> None:
    def answer(site: str, request: Request) -> Reply | Reason:
        reply = honest(site, request)
        tiny = "gradient_roi_edge" in reply.metrics
        return replace(reply, metrics=reply.metrics | {"gradient_roi_edge": 1e-6}) if tiny else reply

    with pytest.raises(CalibrationError, match="weight of roi_edge"):
        federate(ScriptedTransport(answer))

    assert status(tmp_path / "run")[0] == "failed"
