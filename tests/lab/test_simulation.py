"""`roiae-server simulate` as its user types it, on small phantom hospitals."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from safetensors.numpy import load_file

from roiae.config import Role, build_config, read_settings
from roiae.data.site_data import SiteData
from roiae.method.calibration import EQUAL
from roiae.method.losses import TERMS
from roiae.site.answers import Site
from roiae.wire.contract import Request
from roiae_server.run.federation import train_task
from roiae_server.run.plan import Step
from tests.conftest import MODEL, REAL_FRAMES, Arguments, Command

SERVER = str(Path(sys.executable).with_name("roiae-server"))
MODELS = ("phase1.safetensors", "phase2.safetensors", "control.safetensors")


def weights(run: Path) -> list[bytes]:
    return [(run / "checkpoints" / name).read_bytes() for name in MODELS]


def test_a_run_ends_with_its_files_its_table_and_its_picture(
    tiny_run: Arguments, roiae_server: Command, tmp_path: Path
) -> None:
    code, out, err = roiae_server(tiny_run("run"))

    assert (code, err) == (0, "")
    assert "phase1 round 1/2: alpha loss" in out
    for word in (
        "validation, n=2",
        "held out, n=16",
        "control",
        "Edge-MAE",
        "(mm)",
        "reconstructions.png",
        "Mahalanobis AUROC",
        "report.html",
    ):
        assert word in " ".join(out.split()), word
    run = tmp_path / "run"
    quality = json.loads((run / "quality.json").read_text())
    assert set(quality) == {"phase1", "phase2", "control"}
    assert all(set(sites) == {"alpha", "beta", "gamma"} for sites in quality.values())
    assert quality["phase1"]["gamma"]["frames"] == 16
    with Image.open(run / "reconstructions.png") as picture:
        assert picture.width > 600
    shift = json.loads((run / "shift.json").read_text())
    for arm in ("phase1", "phase2"):
        knn = shift[arm]["knn"]
        assert knn["difference"] == pytest.approx(knn["auroc"] - knn["exact_auroc"])
        assert len(shift[arm]["scores"]["mahalanobis"]["gamma"]) == 16
    assert (run / "report.html").read_bytes().count(b'<img src="data:image/png;base64,') == 1
    assert json.loads((run / "report.json").read_text())["quality"] == quality
    assert len(set(weights(run))) == 3
    assert sorted(p.name for p in run.iterdir() if p.suffix == ".tmp") == []


def test_the_recorded_magnitudes_are_those_of_a_round_with_equal_weights(
    finished: Path, hospitals: Path, cache_dir: Path, tmp_path: Path
) -> None:
    """The round repeated from the saved phase 1."""
    config = build_config(read_settings(finished / "config.yaml"))
    calibration = json.loads((finished / "calibration.json").read_text())
    phase1 = load_file(finished / "checkpoints" / "phase1.safetensors")
    opening = Request(train_task(config, Step("phase2", 1, False, "phase2"), EQUAL, 0.0), phase1)
    for name in ("alpha", "beta"):
        data = SiteData.open(hospitals / name, image_size=MODEL.image_size, cache_dir=cache_dir)
        site = Site(name, Role.SOURCE, data, config.privacy, tmp_path / name, minimum=config.minimum)
        told = site.answer(opening).metrics
        assert calibration["frames"][name] == len(data.train)
        assert calibration["magnitudes"][name] == {term: told[f"gradient_{term}"] for term in TERMS}
    overall = calibration["global"]
    assert calibration["weights"] == pytest.approx({term: overall["ms_ssim"] / g for term, g in overall.items()})


def test_an_existing_run_is_refused_and_a_finished_one_is_left_as_it_is(
    finished: Path, tiny_run: Arguments, roiae_server: Command
) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}

    refused, _, err = roiae_server(tiny_run("run"))
    resumed, out, _ = roiae_server([*tiny_run("run"), "--resume"])

    assert refused == 5
    assert "--resume" in err
    assert resumed == 0
    assert "gamma" in out
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


def test_resume_with_another_configuration_names_the_difference(
    finished: Path, tiny_run: Arguments, roiae_server: Command
) -> None:
    code, _, err = roiae_server([*tiny_run("run", seed=5), "--resume"])

    assert code == 5
    assert "seed: 0 in the run, 5 now" in err


def test_resume_with_another_holdout_or_other_data_is_refused(
    finished: Path, tiny_run: Arguments, roiae_server: Command, hospitals: Path, tmp_path: Path
) -> None:
    code, _, err = roiae_server([*tiny_run("run"), "--resume", "--holdout", "alpha"])
    assert (code, "alpha (source)" in err) == (5, True)

    shutil.copytree(hospitals, tmp_path / "other")
    manifest = tmp_path / "other" / "beta" / "manifest.csv"
    manifest.write_text("\n".join(manifest.read_text().splitlines()[:-1]) + "\n")
    code, _, err = roiae_server([*tiny_run("run", data=tmp_path / "other"), "--resume"])
    assert (code, "data of beta have changed" in err) == (5, True)


def break_frame(folder: Path) -> None:
    frame = sorted((folder / "beta" / "images").iterdir())[0]
    frame.write_bytes(frame.read_bytes()[:500])


def lose_frame(folder: Path) -> None:
    sorted((folder / "beta" / "images").iterdir())[0].unlink()


def move_box(folder: Path) -> None:
    manifest = folder / "beta" / "manifest.csv"
    header, first, *rest = manifest.read_text().splitlines()
    cells = first.split(",")
    cells[header.split(",").index("roi_x1")] = "999"
    manifest.write_text("\n".join([header, ",".join(cells), *rest]) + "\n")


def one_source(folder: Path) -> None:
    shutil.rmtree(folder / "alpha")


def empty(folder: Path) -> None:
    for site in folder.iterdir():
        shutil.rmtree(site)


@pytest.mark.parametrize(
    ("damage", "flags", "code", "named"),
    [
        (break_frame, [], 4, ["beta", ".png"]),
        (lose_frame, [], 4, ["beta", ".png"]),
        (move_box, [], 4, ["beta", "999"]),
        (one_source, [], 3, ["1 source hospital"]),
        (empty, [], 4, ["no hospital inside"]),
        (None, ["--holdout", "delta"], 3, ["delta", "alpha, beta, gamma"]),
        (None, ["--set", "model.image_size=200"], 3, ["model.image_size", "200"]),
        (None, ["--set", "phase1.round=2"], 3, ["phase1.round", "phase1.rounds"]),
        (None, ["--set", "train.learning_rate=fast"], 3, ["train.learning_rate", "fast"]),
        (None, ["--config", "absent.yaml"], 3, ["absent.yaml"]),
        (None, ["--data", "/absent"], 4, ["/absent"]),
        (None, ["--out", "/proc/run"], 5, ["/proc/run"]),
        (None, ["--out", "/dev/null/run"], 5, ["/dev/null/run"]),
        (None, ["--engine", "spark"], 2, ["spark"]),
        (None, ["--frobnicate"], 2, ["--frobnicate"]),
    ],
)
def test_bad_input_ends_with_one_message_a_code_and_nothing_behind(
    tiny_run: Arguments,
    roiae_server: Command,
    hospitals: Path,
    tmp_path: Path,
    damage: Callable[[Path], None] | None,
    flags: list[str],
    code: int,
    named: list[str],
) -> None:
    shutil.copytree(hospitals, tmp_path / "data")
    if damage:
        damage(tmp_path / "data")

    ended, _, err = roiae_server([*tiny_run("run", data=tmp_path / "data"), *flags])

    assert ended == code
    assert all(name in err for name in named), err
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_an_empty_configuration_file_is_named(tiny_run: Arguments, roiae_server: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("")

    code, _, err = roiae_server([*tiny_run("run"), "--config", str(tmp_path / "mine.yaml")])

    assert (code, "mine.yaml: is empty" in err) == (3, True)


def test_bad_frames_within_the_share_are_set_aside_and_listed(
    tiny_run: Arguments, roiae_server: Command, hospitals: Path, tmp_path: Path
) -> None:
    shutil.copytree(hospitals, tmp_path / "data")
    break_frame(tmp_path / "data")

    code, out, _ = roiae_server(tiny_run("run", data=tmp_path / "data", data__max_bad_share=0.1))

    assert code == 0
    assert "1 set aside" in out


def test_ray_that_is_not_installed_is_an_error_and_no_fallback(
    tiny_run: Arguments, roiae_server: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else find(name, *rest))

    code, _, err = roiae_server([*tiny_run("run"), "--engine", "ray"])

    assert (code, "Ray is not installed" in err) == (7, True)
    assert not (tmp_path / "run").exists()


def completed_steps(run: Path) -> int:
    """Steps that a run has committed; -1 before it has begun."""
    state = run / "state.json"
    return int(json.loads(state.read_text())["completed"]) if state.exists() else -1


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("completed", [0, 1, 3, 6, 9])
def test_a_run_killed_at_any_step_resumes_to_the_same_bytes(
    finished: Path, tiny_run: Arguments, roiae_server: Command, tmp_path: Path, completed: int
) -> None:
    arguments = [*tiny_run("killed"), "--resume"]
    run = tmp_path / "killed"
    process = subprocess.Popen([SERVER, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: completed_steps(run) >= completed, process)
    time.sleep(0.05)  # into the step that follows
    process.kill()
    process.wait()

    code, _, err = roiae_server(arguments)

    assert code == 0, err
    assert weights(run) == weights(finished)
    assert (run / "shift.json").read_bytes() == (finished / "shift.json").read_bytes()
    lines = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    assert set(Counter((line["step"], line["round"], line["site"]) for line in lines).values()) == {1}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fedprox", "fedadam", "fedmedian", "fedtrimmedavg"])
def test_every_strategy_runs_and_resumes_to_the_same_bytes(
    tiny_run: Arguments, roiae_server: Command, tmp_path: Path, name: str
) -> None:
    """Killed inside phase 2, where a strategy's own state has been through a round and comes from the checkpoint."""
    settings = {"strategy__name": name, "phase2__rounds": 3, "control": "false"}
    code, _, err = roiae_server(tiny_run("unbroken", **settings))
    assert code == 0, err
    arguments = [*tiny_run("killed", **settings), "--resume"]
    process = subprocess.Popen([SERVER, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: completed_steps(tmp_path / "killed") >= 4, process)
    process.kill()
    process.wait()

    code, _, err = roiae_server(arguments)

    assert code == 0, err
    final = Path("checkpoints", "phase2.safetensors")
    assert (tmp_path / "killed" / final).read_bytes() == (tmp_path / "unbroken" / final).read_bytes()


def test_a_terminated_run_says_so_and_can_be_resumed(tiny_run: Arguments, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [SERVER, *tiny_run("run")], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ}
    )
    wait_for((tmp_path / "run" / "state.json").exists, process)
    process.terminate()
    _, err = process.communicate(timeout=60)

    assert process.returncode == 143
    assert b"SIGTERM" in err
    assert b"Traceback" not in err


@pytest.mark.slow
@pytest.mark.skipif(not REAL_FRAMES.is_dir(), reason="real NT frames are not beside the checkout")
@pytest.mark.real_frames
def test_three_real_hospitals_train_through_both_phases(
    tiny_run: Arguments, roiae_server: Command, tmp_path: Path
) -> None:
    code, _, err = roiae_server([*tiny_run("run", data=REAL_FRAMES), "--holdout", "philips"])

    assert code == 0, err
    quality = json.loads((tmp_path / "run" / "quality.json").read_text())
    assert quality["phase2"]["philips"]["frames"] == 151
    assert quality["phase2"]["philips"]["roi_mae"] < quality["phase1"]["philips"]["roi_mae"]


@pytest.mark.slow
def test_ray_gives_the_same_bytes_as_this_process(finished: Path, tiny_run: Arguments, tmp_path: Path) -> None:
    """In a network of its own where the machine allows it: Ray listens on every interface."""
    command = [SERVER, *tiny_run("ray"), "--engine", "ray"]
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0:
        command = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *command]

    ended = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)

    assert ended.returncode == 0, ended.stderr
    assert weights(tmp_path / "ray") == weights(finished)
    assert (tmp_path / "ray" / "shift.json").read_bytes() == (finished / "shift.json").read_bytes()
    local = (finished / "rounds.jsonl").read_text().splitlines()
    on_ray = (tmp_path / "ray" / "rounds.jsonl").read_text().splitlines()
    keys = ("step", "round", "site", "status")
    assert [[json.loads(li)[k] for k in keys] for li in local] == [[json.loads(li)[k] for k in keys] for li in on_ray]
