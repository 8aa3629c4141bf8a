"""`roiae-server reproduce` as its user types it, on small phantom hospitals."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from roiae.config import Role, build_config, read_settings
from roiae.data.site_data import SiteData
from roiae.method.metrics import Evaluation
from roiae.method.training import initial_arrays
from roiae.site.answers import Site
from roiae.wire.contract import EvaluateTask, Request
from roiae_lab.reproduce.arms import ARMS, HAND_PICKED
from roiae_server.report.words import size
from roiae_server.run import progress
from roiae_server.run.federation import train_task
from roiae_server.run.plan import Step, calibrates, plan
from tests.conftest import MODEL, Arguments, Command
from tests.web_page import Page

ROOT = Path(__file__).parents[3]
FINAL = Path("checkpoints", "phase2.safetensors")
SMALL = {"model__width": 8, "phase1__rounds": 1}
FEW = ["--arms", "equal,pooled"]


@pytest.fixture
def reproduce(tiny_run: Arguments, roiae_server: Command) -> Callable[..., tuple[int, str, str]]:
    """Runs the command with one seed: (further arguments, out, **settings)."""

    def run(*arguments: str, out: str = "out", **settings: object) -> tuple[int, str, str]:
        typed = tiny_run(out, **{**SMALL, **settings})
        return roiae_server(["reproduce", *typed[1:], "--seeds", "1", *arguments])

    return run


Reproduce = Callable[..., tuple[int, str, str]]


@pytest.fixture
def reproduced(reproduce: Reproduce, cache_dir: Path, tmp_path: Path) -> Path:
    """A finished folder of the method, one branch and pooled training; made once, copied for each test."""
    kept = cache_dir / "reproduced"
    if not kept.exists():
        code, _, err = reproduce(*FEW)
        assert (code, err) == (0, "")
        shutil.copytree(tmp_path / "out", kept)
    else:
        shutil.copytree(kept, tmp_path / "out")
    return tmp_path / "out"


def read(out: Path) -> Any:
    return json.loads((out / "reproduce.json").read_text())


@pytest.mark.slow
def test_every_hospital_is_held_out_in_turn_and_every_claim_has_a_verdict(reproduced: Path) -> None:
    content = read(reproduced)

    assert [result["holdout"] for result in content["results"]] == ["alpha", "beta", "gamma"]
    assert set(content["results"][0]["quality"]) == {"phase1", "control", "method", "equal", "pooled"}
    verdicts = {claim["claim"]: claim["verdict"] for claim in content["claims"]}
    assert verdicts["PSNR gains"] in ("held", "held in part", "not held")
    assert verdicts["Calibrated weights are no worse than the best hand-picked ones"] == "not computed"
    assert "| PSNR dB against phase 1, validation | +0.27 |" in (reproduced / "reproduce.md").read_text()


@pytest.mark.slow
def test_its_page_leads_to_every_run_and_says_what_it_took(reproduced: Path) -> None:
    page = Page((reproduced / "report.html").read_bytes())
    links = [of["href"] or "" for of in page.all("a") if not (of["href"] or "").startswith("#")]

    assert links == [f"{holdout}/seed-0/method/report.html" for holdout in ("alpha", "beta", "gamma")]
    assert all((reproduced / link).is_file() for link in links)
    assert {"method", "equal", "pooled", "all"} <= set(page.texts_in("th"))
    assert str(reproduced.parent) not in (reproduced / "report.html").read_text()
    lines = [
        json.loads(line)
        for path in reproduced.glob("*/seed-0/equal/rounds.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert size(sum(line["bytes_out"] for line in lines)) in page.texts_in("td")


@pytest.mark.slow
def test_every_key_is_documented(reproduced: Path) -> None:
    page, content = (ROOT / "docs" / "REPRODUCE.md").read_text(), read(reproduced)
    (claim, *_), (result, *_) = content["claims"], content["results"]
    at_a_hospital = claim["parts"][0]["held_out"]["alpha"]

    for key in (*content, *result, *claim, *claim["parts"][0], *at_a_hospital):
        assert f"`{key}`" in page


@pytest.mark.slow
def test_the_method_is_what_simulate_trains(
    reproduced: Path, tiny_run: Arguments, roiae_server: Command, tmp_path: Path
) -> None:
    code, _, err = roiae_server([*tiny_run("simulated", **SMALL), "--holdout", "beta"])

    assert code == 0, err
    method = reproduced / "beta" / "seed-0" / "method"
    for name in ("phase1.safetensors", "phase2.safetensors", "control.safetensors"):
        assert (method / "checkpoints" / name).read_bytes() == (tmp_path / "simulated/checkpoints" / name).read_bytes()
    assert (method / "shift.json").read_bytes() == (tmp_path / "simulated" / "shift.json").read_bytes()
    quality = json.loads((tmp_path / "simulated" / "quality.json").read_text())
    scored = read(reproduced)["results"][1]["quality"]
    assert {"phase1": scored["phase1"], "phase2": scored["method"], "control": scored["control"]} == quality


@pytest.mark.slow
def test_a_branch_is_the_phase_2_of_a_run_with_its_settings(
    reproduced: Path, tiny_run: Arguments, roiae_server: Command, tmp_path: Path
) -> None:
    """Though it began with another run's phase 1. Such a run has its own report, without a calibration."""
    weights = "{ms_ssim: 1, roi_l1: 1, roi_edge: 1}"
    arguments = tiny_run("whole", **SMALL, control="false", phase2__weights=weights)

    code, out, err = roiae_server([*arguments, "--holdout", "beta"])

    assert code == 0, err
    assert "phase 2 weights, set by hand: ms_ssim 1, roi_l1 1, roi_edge 1" in out
    assert (reproduced / "beta/seed-0/equal" / FINAL).read_bytes() == (tmp_path / "whole" / FINAL).read_bytes()
    assert "were set by hand" in (tmp_path / "whole" / "report.html").read_text()


@pytest.mark.slow
def test_a_finished_experiment_is_shown_again_and_left_as_it_is(reproduced: Path, reproduce: Reproduce) -> None:
    before = {path: path.read_bytes() for path in reproduced.rglob("*") if path.is_file()}

    code, out, _ = reproduce(*FEW)

    assert code == 0
    assert "9 trainings, 9 of them done" in out
    assert {path: path.read_bytes() for path in reproduced.rglob("*") if path.is_file()} == before


class Stop(BaseException):
    """As a machine that is switched off."""


@pytest.mark.slow
@pytest.mark.parametrize("steps", [3, 10, 13])
def test_an_experiment_that_was_stopped_ends_with_the_same_file(
    reproduced: Path, reproduce: Reproduce, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """Within the method, within its branch, and within pooled training."""
    left = iter(range(steps))
    completed = progress.RunProgress.completed

    def stop(self: progress.RunProgress, step: Step, done: int, of: int) -> None:
        completed(self, step, done, of)
        if next(left, None) is None:
            raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(progress.RunProgress, "completed", stop)
        with pytest.raises(Stop):
            reproduce(*FEW, out="stopped")

    code, _, err = reproduce(*FEW, out="stopped")

    assert (code, err) == (0, "")
    assert (tmp_path / "stopped" / "reproduce.json").read_bytes() == (reproduced / "reproduce.json").read_bytes()


@pytest.mark.slow
def test_other_settings_than_it_was_begun_with_are_named(reproduced: Path, reproduce: Reproduce) -> None:
    code, _, err = reproduce(*FEW, phase1__rounds=3)

    assert code == 5
    assert "phase1.rounds: 1 in the run, 3 now" in err


@pytest.mark.slow
def test_other_data_than_it_was_begun_with_are_refused(
    reproduced: Path, reproduce: Reproduce, hospitals: Path, tmp_path: Path
) -> None:
    shutil.copytree(hospitals, tmp_path / "other")
    manifest = tmp_path / "other" / "beta" / "manifest.csv"
    manifest.write_text("\n".join(manifest.read_text().splitlines()[:-1]) + "\n")

    code, _, err = reproduce(*FEW, "--data", str(tmp_path / "other"))

    assert (code, "the data have changed" in err) == (5, True)


@pytest.mark.slow
def test_other_hospitals_than_it_was_begun_with_are_refused(
    reproduced: Path, reproduce: Reproduce, hospitals: Path, tmp_path: Path
) -> None:
    for name in ("one", "two", "three"):
        shutil.copytree(hospitals / "alpha", tmp_path / "other" / name)

    code, _, err = reproduce(*FEW, "--data", str(tmp_path / "other"))

    assert (code, "holds alpha, which is no part of an experiment with one, three, two" in err) == (5, True)


@pytest.mark.parametrize(
    ("arguments", "settings", "code", "named"),
    [
        (["--arms", "fedsgd"], {}, 3, "fedsgd: no such arm"),
        (["--seeds", "0"], {}, 2, "--seeds"),
        ([], {"control": "false"}, 3, "Leave both settings out"),
        ([], {"phase2__weights": "{ms_ssim: 1, roi_l1: 1, roi_edge: 1}"}, 3, "Leave both settings out"),
        (["--data", "/absent"], {}, 4, "/absent"),
        (["--out", "/proc/run"], {}, 5, "/proc/run"),
        (["--out", "/dev/null/run"], {}, 5, "/dev/null/run"),
        (["--other-roi", "/absent"], {}, 4, "/absent"),
    ],
)
def test_bad_input_ends_with_one_message_a_code_and_nothing_behind(
    reproduce: Reproduce, tmp_path: Path, arguments: list[str], settings: dict[str, object], code: int, named: str
) -> None:
    ended, _, err = reproduce(*arguments, **settings)

    assert ended == code
    assert named in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else_is_refused(reproduce: Reproduce, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "state.json").write_text("{}")

    code, _, err = reproduce(*FEW)

    assert (code, "holds state.json" in err) == (5, True)


@pytest.mark.slow
def test_another_roi_may_come_with_manifests_of_its_own(
    reproduced: Path, reproduce: Reproduce, hospitals: Path, tmp_path: Path
) -> None:
    """Into a folder that was begun without this arm."""
    shutil.copytree(hospitals, tmp_path / "other")
    for manifest in (tmp_path / "other").glob("*/manifest.csv"):
        header, *rows = [line.split(",") for line in manifest.read_text().splitlines()]
        for row in rows:
            for column, edge in zip(("roi_x0", "roi_y0", "roi_x1", "roi_y1"), (20, 30, 90, 70), strict=True):
                row[header.index(column)] = str(edge)
        manifest.write_text("".join(",".join(row) + "\n" for row in [header, *rows]))

    code, out, err = reproduce("--arms", "other-roi", "--other-roi", str(tmp_path / "other"))

    assert (code, err) == (0, "")
    assert "6 trainings, 3 of them done" in out
    (alpha, *_) = read(reproduced)["results"]
    before, after = (alpha["quality"][f"other-roi/{model}"]["beta"]["roi_mae"] for model in ("phase1", "method"))
    assert after < before != alpha["quality"]["phase1"]["beta"]["roi_mae"]

    code, _, err = reproduce("--arms", "other-roi")
    assert (code, "the data have changed" in err) == (5, True), "other boxes than it was begun with"


@pytest.mark.slow
def test_all_arms_run_and_a_training_alone_is_a_plain_loop(
    reproduce: Reproduce, hospitals: Path, cache_dir: Path, tmp_path: Path
) -> None:
    """The loop is written out here: a site's weights after a round are what it starts the next one from."""
    code, _, err = reproduce(phase1__rounds=2)

    assert (code, err) == (0, "")
    (alpha, *_) = read(tmp_path / "out")["results"]
    branches = {*HAND_PICKED, "fedprox", "fedadam", "pooled", "alone/beta", "alone/gamma"}
    other = {f"other-roi/{model}" for model in ("phase1", "control", "method")}
    assert set(alpha["quality"]) == {"phase1", "control", "method", *branches, *other}
    assert "not computed" not in {
        claim["verdict"] for claim in read(tmp_path / "out")["claims"] if claim["source"] == "target"
    }
    assert set(read(tmp_path / "out")["arms"]) == set(ARMS)

    measures = ("psnr", "roi_mae")
    before, with_other_boxes = (alpha["quality"][name]["alpha"] for name in ("phase1", "other-roi/phase1"))
    assert [before[name] == with_other_boxes[name] for name in measures] == [True, False]

    run = tmp_path / "out" / "beta" / "alone" / "seed-0"
    config = build_config(read_settings(run / "config.yaml"))
    data = SiteData.open(hospitals / "beta", image_size=MODEL.image_size, cache_dir=cache_dir)
    site = Site("beta", Role.SOURCE, data, config.privacy, tmp_path / "state", minimum=config.minimum)
    weights = json.loads((run / "calibration.json").read_text())["weights"]
    arrays = initial_arrays(config.model, config.seed)
    known: dict[str, float] = {}
    for step in plan(config):
        if step.trains:
            arrays = site.answer(Request(train_task(config, step, known, 0.0), arrays)).arrays
        if calibrates(step, config):
            known = weights
    trained = load_file(run / FINAL)
    assert all(np.array_equal(trained[name], array) for name, array in arrays.items())

    task = EvaluateTask(model=config.model, batch_size=config.train.batch_size, threads=1)
    scored = Evaluation.from_sums(site.answer(Request(task, arrays)).metrics).means()
    assert alpha["quality"]["alone/beta"]["beta"] == scored
