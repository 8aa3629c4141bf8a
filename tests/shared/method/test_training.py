from collections.abc import Callable

import numpy as np
import pytest
import torch

from roiae.data.site_data import FrameSet
from roiae.method import hardware
from roiae.method import training as training_module
from roiae.method.calibration import EQUAL
from roiae.method.losses import TERMS, Comparison
from roiae.method.metrics import Quality, quality
from roiae.method.model import Autoencoder
from roiae.method.training import (
    arrays_of,
    evaluate,
    load_arrays,
    round_seed,
    shuffled_batches,
    train_round,
)
from roiae.wire.contract import Arrays, TrainTask
from tests.conftest import MODEL

Frames = Callable[[int, int], FrameSet]


def trained(initial: Arrays, data: FrameSet, task: TrainTask, site: str = "a") -> Arrays:
    model = Autoencoder(**MODEL.model_dump())
    load_arrays(model, initial)
    train_round(model, data, task, site=site)
    return arrays_of(model)


def same(one: Arrays, other: Arrays) -> bool:
    return all(one[name].tobytes() == other[name].tobytes() for name in one)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_equal_seed_site_and_round_give_equal_bytes(
    initial: Arrays, frame_set: Frames, train_task: TrainTask, precision: str
) -> None:
    task = train_task.model_copy(
        update={"augment": True, "batch_size": 2, "precision": precision, "optimizer": "adamw"}
    )
    data = frame_set(5, 0)

    assert same(trained(initial, data, task), trained(initial, data, task))


@pytest.mark.parametrize("change", [{"seed": 1}, {"round": 2}])
def test_another_seed_or_round_gives_other_bytes(
    initial: Arrays, frame_set: Frames, train_task: TrainTask, change: dict[str, int]
) -> None:
    task = train_task.model_copy(update={"batch_size": 2})
    data = frame_set(5, 0)

    assert not same(trained(initial, data, task), trained(initial, data, task.model_copy(update=change)))


def test_gradients_so_small_that_adamw_would_be_linear_in_them_move_nothing(
    initial: Arrays, frame_set: Frames, train_task: TrainTask
) -> None:
    adamw = train_task.model_copy(update={"optimizer": "adamw", "weights": {"ms_ssim": 1e-12}})

    assert same(trained(initial, frame_set(5, 0), adamw), initial)


@pytest.mark.parametrize(
    ("shares", "quiet"),
    [((0.9, 0.0, 0.0), 0.9), ((0.001, 1.0, 0.002), 0.002), ((0.0, 1.0, 1.0), 1.0), ((0.0, 1.0), 0.0)],
)
def test_a_gradient_is_quiet_in_the_first_step_or_in_most(
    initial: Arrays,
    frame_set: Frames,
    train_task: TrainTask,
    monkeypatch: pytest.MonkeyPatch,
    shares: tuple[float, ...],
    quiet: float,
) -> None:
    """An honest network may fall silent for a few steps and wake again."""
    steps = iter(shares)
    monkeypatch.setattr(training_module, "_LOOKED_AT", 1)
    monkeypatch.setattr(training_module, "_quiet_share", lambda parameters: torch.tensor(next(steps)))
    task = train_task.model_copy(update={"batch_size": 2})

    model = Autoencoder(**MODEL.model_dump())
    load_arrays(model, initial)

    assert train_round(model, frame_set(2 * len(shares), 0), task, site="a").quiet == pytest.approx(quiet)


def test_seeds_differ_by_run_site_and_round() -> None:
    seeds = {round_seed(seed, site, r) for seed in (0, 1) for site in ("a", "b") for r in (1, 2)}

    assert len(seeds) == 8
    assert max(seeds) < 2**63


def test_an_epoch_sees_every_frame_once_in_batches_of_nearly_equal_size(frame_set: Frames) -> None:
    data = frame_set(17, 0)

    batches = list(shuffled_batches(data, 8, torch.Generator().manual_seed(0)))

    assert [len(frames) for frames, _ in batches] == [6, 6, 5]
    seen = sorted(tuple(box) for _, rois in batches for box in rois.tolist())
    assert seen == sorted(tuple(box) for box in data.rois.tolist())


def test_a_terms_magnitude_is_the_root_mean_square_of_its_gradients_over_the_rounds_steps(
    initial: Arrays, frame_set: Frames, train_task: TrainTask
) -> None:
    """Two steps on everything; each gradient anew by a plain backward, where that step began."""
    data = frame_set(4, 0)
    once = train_task.model_copy(update={"weights": EQUAL})
    model = Autoencoder(**MODEL.model_dump())
    load_arrays(model, initial)

    twice = once.model_copy(update={"local_epochs": 2, "measure": True})
    measured = train_round(model, data, twice, site="a").magnitudes

    frames, rois = data.batch(np.arange(4))
    squares: dict[str, list[float]] = {term: [] for term in TERMS}
    for arrays in (initial, trained(initial, data, once)):
        load_arrays(model, arrays)
        for term, loss in TERMS.items():
            model.zero_grad()
            loss(Comparison(model(frames), frames, rois)).backward()  # type: ignore[no-untyped-call]
            squares[term].append(sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None))
    assert measured == pytest.approx({term: np.mean(of) ** 0.5 for term, of in squares.items()}, rel=1e-4)


@pytest.mark.parametrize("mu", [0.0, 0.5])
def test_measuring_changes_nothing_of_the_training(
    initial: Arrays, frame_set: Frames, train_task: TrainTask, mu: float
) -> None:
    update = {"weights": EQUAL, "batch_size": 2, "augment": True, "clip_norm": 0.1, "proximal_mu": mu}
    task = train_task.model_copy(update=update)
    data = frame_set(5, 0)

    assert same(trained(initial, data, task), trained(initial, data, task.model_copy(update={"measure": True})))


def test_the_proximal_term_is_half_mu_times_the_squared_distance(
    initial: Arrays, frame_set: Frames, train_task: TrainTask
) -> None:
    """Two SGD steps by hand; at the second the term pulls back by μ·(w₁ − w₀)."""
    mu, rate = 0.5, 0.1
    first, second = frame_set(4, 1), frame_set(4, 1)
    task = train_task.model_copy(update={"learning_rate": rate, "local_epochs": 2})

    plain = trained(initial, first, task)
    one = trained(initial, first, task.model_copy(update={"local_epochs": 1}))
    proximal = trained(initial, second, task.model_copy(update={"proximal_mu": mu}))

    for name in initial:
        expected = plain[name] - rate * mu * (one[name] - initial[name])
        np.testing.assert_allclose(proximal[name], expected, atol=2e-6)


def test_gradients_are_clipped_to_the_norm(initial: Arrays, frame_set: Frames, train_task: TrainTask) -> None:
    task = train_task.model_copy(update={"clip_norm": 1e-3, "learning_rate": 1.0})

    after = trained(initial, frame_set(4, 0), task)

    moved = np.sqrt(sum(float(np.square(after[name] - initial[name]).sum()) for name in initial))
    assert moved == pytest.approx(1e-3, rel=1e-2)


def test_aggregated_metrics_equal_those_of_the_pooled_frames(initial: Arrays, frame_set: Frames) -> None:
    model = Autoencoder(**MODEL.model_dump())
    load_arrays(model, initial)
    parts = [frame_set(3, 0), frame_set(6, 1)]

    federated = sum((evaluate(model, part, 2) for part in parts), Quality())

    frames, rois = (torch.cat(column) for column in zip(*(p.batch(np.arange(len(p))) for p in parts), strict=True))
    with torch.no_grad():
        pooled = quality(model(frames), frames, rois)
    assert federated.means() == pytest.approx(pooled.means(), rel=1e-5)


GPU = next((name for name in ("cuda", "mps") if hardware.is_available(name)), None)


@pytest.mark.gpu
@pytest.mark.skipif(GPU is None, reason="this machine has no GPU that torch can use")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_trains_and_evaluates_nearly_as_a_cpu_does(
    initial: Arrays, frame_set: Frames, train_task: TrainTask, precision: str
) -> None:
    weights = {"ms_ssim": 1.0, "roi_l1": 0.4, "roi_edge": 0.6}
    change = {"weights": weights, "augment": True, "batch_size": 4, "precision": precision, "optimizer": "adamw"}
    task = train_task.model_copy(update={**change, "learning_rate": 1e-3, "measure": True})
    data, trainings, qualities = frame_set(9, 0), [], []
    for device in ("cpu", str(GPU)):
        model = Autoencoder(**MODEL.model_dump())
        load_arrays(model, initial)
        model.to(device)
        trainings.append(train_round(model, data, task, site="a"))
        qualities.append(evaluate(model, data, 4).means())

    assert trainings[1].losses == pytest.approx(trainings[0].losses, rel=0.02)
    assert trainings[1].magnitudes == pytest.approx(trainings[0].magnitudes, rel=0.1)
    assert qualities[1] == pytest.approx(qualities[0], rel=0.02)
