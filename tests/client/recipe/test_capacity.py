"""A task that does not fit into this machine is refused before anything is built for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roiae.config import ModelConfig
from roiae.console.doctor import own_memory
from roiae.errors import Reason, RefusalError
from roiae.method.forecast import request_memory, training_memory, weights_bytes
from roiae.wire.contract import EvaluateTask, KeysTask, Task, TrainTask
from roiae_client.folder.site_config import Limits, SiteConfig
from roiae_client.recipe import capacity
from roiae_client.recipe.capacity import Capacity, seconds_a_frame
from tests.conftest import MODEL

LARGEST = ModelConfig(image_size=4096, width=256, latent_dim=1024)


@pytest.fixture
def of_alpha(hospitals: Path) -> Callable[..., Capacity]:
    """Of a hospital of sixteen frames, on which a frame takes these seconds: (seconds, **limits)."""

    def make(seconds: float = 1e-3, **limits: Any) -> Capacity:
        config = SiteConfig(name="alpha", data=hospitals / "alpha", device="cpu", limits=Limits.model_validate(limits))
        return Capacity(config, lambda task, device: seconds)

    return make


def refused(question: Callable[[], object]) -> str:
    with pytest.raises(RefusalError) as refusal:
        question()
    assert refusal.value.reason is Reason.TASK_TOO_LARGE
    return str(refusal.value)


def test_the_default_training_fits_into_a_machine(of_alpha: Callable[..., Capacity], recipe: TrainTask) -> None:
    of_alpha().check(recipe.model_copy(update={"model": ModelConfig()}))


@pytest.mark.parametrize("change", [{"batch_size": 4096}, {"model": LARGEST}])
def test_a_training_that_needs_more_memory_than_there_is_is_refused_and_not_tried(
    of_alpha: Callable[..., Capacity], recipe: TrainTask, change: dict[str, Any]
) -> None:
    assert "of memory" in refused(lambda: of_alpha(seconds=1e9).check(recipe.model_copy(update=change)))


@pytest.mark.parametrize("kind", [EvaluateTask, KeysTask])
def test_so_is_everything_else_that_runs_a_model(of_alpha: Callable[..., Capacity], kind: Callable[..., Task]) -> None:
    assert "of memory" in refused(lambda: of_alpha().check(kind(model=LARGEST, batch_size=4096, threads=1)))


def test_what_is_free_now_decides_and_what_this_process_holds_counts_as_free(
    of_alpha: Callable[..., Capacity], recipe: TrainTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = request_memory(recipe)
    monkeypatch.setattr(capacity, "available_memory", lambda: needed - own_memory() + 100e6)
    of_alpha().check(recipe)

    monkeypatch.setattr(capacity, "available_memory", lambda: needed - own_memory() - 100e6)
    refused(lambda: of_alpha().check(recipe))


def test_frames_that_the_disk_cannot_hold_are_not_read(
    of_alpha: Callable[..., Capacity], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = EvaluateTask(model=MODEL, batch_size=4, threads=1)
    at_alpha = of_alpha()
    at_alpha.check(task)
    monkeypatch.setattr(capacity, "free_disk", lambda folder: capacity.LEFT_FREE + 16 * MODEL.image_size**2 - 1.0)

    at_alpha.check(task)  # these are in the cache
    assert "for frames of its size" in refused(lambda: of_alpha().check(task))


def test_a_training_that_would_take_longer_than_the_site_allows_is_refused(
    of_alpha: Callable[..., Capacity], recipe: TrainTask
) -> None:
    """Sixteen frames at 100 s in two passes are 0.889 h."""
    task = recipe.model_copy(update={"local_epochs": 2})
    of_alpha(100.0, max_hours_per_request=0.9).check(task)

    message = refused(lambda: of_alpha(100.0, max_hours_per_request=0.88).check(task))
    assert "0.889 h" in message
    assert "limits.max_hours_per_request is 0.88" in message


def test_an_evaluation_that_would_take_longer_than_the_site_allows_is_refused(
    of_alpha: Callable[..., Capacity],
) -> None:
    task = EvaluateTask(model=MODEL, batch_size=4, threads=1)
    assert 0 < seconds_a_frame(task, "cpu") < 60
    of_alpha(100.0, max_hours_per_request=0.45).check(task)

    assert "0.444 h" in refused(lambda: of_alpha(100.0, max_hours_per_request=0.44).check(task))


def test_a_step_is_measured_once_for_each_kind_of_training(hospitals: Path, recipe: TrainTask) -> None:
    measured: list[int] = []

    def measure(task: TrainTask | EvaluateTask, device: str) -> float:
        measured.append(task.batch_size)
        return 1e-3

    at_alpha = Capacity(SiteConfig(name="alpha", data=hospitals / "alpha", device="cpu"), measure)
    for round_, batch_size in enumerate((4, 4, 4, 8, 4), start=1):
        at_alpha.check(recipe.model_copy(update={"round": round_, "batch_size": batch_size, "learning_rate": 1e-4}))

    assert measured == [4, 8]


def test_a_first_step_that_was_slow_is_measured_again_before_anything_is_refused(
    hospitals: Path, recipe: TrainTask
) -> None:
    seconds = iter([1e6, 1e-3])
    at_alpha = Capacity(SiteConfig(name="alpha", data=hospitals / "alpha", device="cpu"), lambda *of: next(seconds))

    at_alpha.check(recipe)
    at_alpha.check(recipe)


def test_the_step_that_is_measured_changes_no_random_number(recipe: TrainTask) -> None:
    import torch

    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)

    assert 0 < seconds_a_frame(recipe, "cpu") < 60
    assert torch.equal(torch.rand(3), expected)


def test_a_forecast_for_a_request_errs_high(recipe: TrainTask) -> None:
    """Peaks of whole processes with torch 2.13, MiB: the steps of `train_round`, or `evaluate`, and nothing else."""
    for width, latent, side, batch, measured in (
        (128, 128, 256, 4, 989), (256, 128, 256, 2, 1926), (256, 1024, 256, 1, 3624), (16, 128, 256, 32, 812),
    ):  # fmt: skip
        model = ModelConfig(width=width, latent_dim=latent, image_size=side)
        task = recipe.model_copy(update={"model": model, "batch_size": batch})
        assert request_memory(task) / 2**20 > measured
        assert request_memory(task) == training_memory(model, batch) + 8 * weights_bytes(model)
    for width, side, batch, measured in ((16, 256, 32, 475), (128, 256, 4, 439), (64, 512, 4, 492)):
        model = ModelConfig(width=width, image_size=side)
        assert request_memory(EvaluateTask(model=model, batch_size=batch, threads=1)) / 2**20 > measured
