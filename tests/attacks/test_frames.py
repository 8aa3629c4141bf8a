"""A frame out of updates: by the coordinator's own recipe, and by the hospital's with weights made by hand.

The tries are spread over three hospitals' real frames. Where a mechanism is off, it is off in the test alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle

import numpy as np
import pytest
from numpy.typing import NDArray

from roiae.data.site_data import SiteData
from roiae.errors import Reason
from roiae.method.training import initial_arrays
from roiae.shift.latents import digest
from roiae.wire.contract import Arrays, Reply, TrainTask
from roiae_client.folder.site_config import Limits
from roiae_client.recipe.weights_history import ONE_WEIGHT
from tests.attacks.crafted import (
    FEATURES,
    MODEL,
    SIDE,
    binning_weights,
    decoded_rows,
    lone_weights,
    pictures_of,
    summing_weights,
)
from tests.attacks.flat import flat_weights
from tests.attacks.hospital import NO_RECIPE, SITES, Hospital, seen, training, update_of, without_floor, without_history
from tests.attacks.likeness import NOTHING, Likeness, best_likeness, reduced, summary
from tests.attacks.trap import largest, path, sharpest, trapped

pytestmark = [pytest.mark.real_frames, pytest.mark.timeout(3600)]

TRIES = [
    pytest.param(3, id="some", marks=pytest.mark.slow),
    pytest.param(21, id="all", marks=pytest.mark.attacks),
]
# As a hospital allows from one round to the next, less what rounding takes: L2 norm, and of one number.
STEP = (0.99 * Limits().max_update_norm, 0.99 * ONE_WEIGHT * Limits().max_update_norm)
NEARLY = 0.97  # of limits.max_weight_change, from either beginning
HONEST = 1e-3  # learning rate; at 0.003 a network can fall silent in its first round, which is refused
FREE = {"optimizer": "sgd", "batch_size": 1, "learning_rate": 1e6, "clip_norm": 1e29, "augment": False}
Hospitals = Callable[..., Hospital]
Sites = dict[str, SiteData]


def turns(tries: int) -> Iterator[tuple[int, str, str]]:
    """A seed, whom to attack, and another hospital whose frames the coordinator knows."""
    yield from zip(range(tries), cycle(SITES), cycle(SITES[1:] + SITES[:1]), strict=False)


def intensities(data: SiteData) -> NDArray[np.float32]:
    """Of the training frames, [N, S, S]."""
    return data.train.frames.astype(np.float32) / np.float32(255)


def read_pixels(reply: Reply | Reason, sent: Arrays, data: SiteData, task: TrainTask) -> Likeness:
    """What rows behind a routed encoder show; nothing where the request was refused."""
    if isinstance(reply, Reason):
        return NOTHING
    rows = update_of(reply, sent, FEATURES)
    return best_likeness(pictures_of(rows), reduced(seen(data.train, task), SIDE))


def read_trap(reply: Reply | Reason, sent: Arrays, honest: Arrays, data: SiteData, task: TrainTask) -> Likeness:
    """What the honest model makes of the rows, and of those alone that are not its own."""
    if isinstance(reply, Reason):
        return NOTHING
    update = update_of(reply, sent, FEATURES)
    changed = update[(sent[FEATURES] != honest[FEATURES]).any(axis=1)]
    pictures = np.concatenate([decoded_rows(honest, rows) for rows in (update, changed)])
    return best_likeness(reduced(pictures, SIDE), reduced(seen(data.train, task), SIDE))


@dataclass(frozen=True)
class Led:
    """How far a hospital was led: its last answer with an update, to what, and why there was no other."""

    reply: Reply | Reason
    sent: Arrays
    task: TrainTask
    refused: Reason | None = None


def lead(asked: Hospital, steps: Sequence[Arrays], task: TrainTask) -> Led:
    """One step a round, until one is refused."""
    last = Led(Reason.OFF_COURSE, steps[0], task, Reason.OFF_COURSE)
    for round_, sent in enumerate(steps, 1):
        now = task.model_copy(update={"round": round_})
        reply = asked.ask(now, sent)
        if isinstance(reply, Reason):
            return replace(last, refused=reply)
        last = Led(reply, sent, now)
    return last


def read_features(reply: Reply | Reason, sent: Arrays, data: SiteData, task: TrainTask) -> Likeness:
    """What the model itself makes of the rows behind its own encoder."""
    if isinstance(reply, Reason):
        return NOTHING
    pictures = reduced(decoded_rows(sent, update_of(reply, sent, FEATURES)), SIDE)
    return best_likeness(pictures, reduced(seen(data.train, task), SIDE))


@pytest.mark.parametrize("tries", TRIES)
def test_a_recipe_of_the_coordinators_shows_a_frame_and_is_refused(
    tries: int, real_sites: Sites, hospital: Hospitals, record: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    off, reasons = [], set()
    for seed, of, _ in turns(tries):
        task, sent = training(seed, **FREE), summing_weights()
        reasons.add(hospital(of).ask(task, sent))
        with monkeypatch.context() as context:
            without_history(context)
            off.append(read_pixels(hospital(of, NO_RECIPE).ask(task, sent), sent, real_sites[of], task))

    record("recipe", off=summary(off), refused=sorted(reasons))
    assert min(one.correlation for one in off) > 0.99
    assert reasons == {Reason.NOT_ALLOWED}


@pytest.mark.parametrize("tries", TRIES)
def test_weights_made_by_hand_show_a_frame_under_the_hospitals_recipe_and_are_refused(
    tries: int, real_sites: Sites, hospital: Hospitals, record: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Off is the history of weights with the floor under gradients; then the floor is on alone, then the history."""
    off, floor, adapted, on, reasons = [], [], [], [], set()
    for seed, of, known in turns(tries):
        task, data = training(seed), real_sites[of]
        frames = intensities(real_sites[known])
        sent, lone = binning_weights(frames, seed), lone_weights(frames, seed)
        reasons |= {hospital(of).ask(task, sent), hospital(of).ask(task, lone)}
        with monkeypatch.context() as context:
            without_history(context)
            floor.append(read_pixels(hospital(of).ask(task, sent), sent, data, task))
            adapted.append(read_pixels(hospital(of).ask(task, lone), lone, data, task))
            without_floor(context)
            off.append(read_pixels(hospital(of).ask(task, sent), sent, data, task))
        first = initial_arrays(MODEL, seed)
        on.append(read_features(hospital(of).ask(task, first), first, data, task))

    record("weights", off=summary(off), on=summary(on), refused=sorted(reasons))
    record("floor", off=summary(off), on=summary(floor))
    record("adapted", on=summary(adapted))
    assert summary(off)["correlation"] > 0.9
    assert summary(floor)["correlation"] < 0.5
    assert summary(adapted)["correlation"] < 0.9  # signs of pixels, no more
    assert reasons == {Reason.OFF_COURSE}
    assert summary(on)["correlation"] < summary(on)["neighbour_correlation"]


@pytest.mark.parametrize("tries", TRIES)
def test_several_updates_from_the_runs_own_weights_do_not_add_up_to_a_frame(
    tries: int, real_sites: Sites, hospital: Hospitals, record: Callable[..., None]
) -> None:
    """The same weights in four rounds: other orders, other flips. Their mean and their differences are looked at."""
    found = []
    for seed, of, _ in turns(tries):
        asked, sent, updates = hospital(of), initial_arrays(MODEL, seed), []
        for round_ in range(1, 5):
            reply = asked.ask(training(seed, learning_rate=HONEST, round=round_), sent)
            assert isinstance(reply, Reply)
            updates.append(update_of(reply, sent, FEATURES))
        mixed = [np.mean(updates, axis=0), *(updates[0] - other for other in updates[1:])]
        pictures = reduced(np.concatenate([decoded_rows(sent, update) for update in mixed]), SIDE)
        found.append(
            best_likeness(pictures, reduced(seen(real_sites[of].train, training(seed, learning_rate=HONEST)), SIDE))
        )

    record("several", on=summary(found))
    assert summary(found)["correlation"] < summary(found)["neighbour_correlation"]


@pytest.mark.parametrize("tries", TRIES)
def test_a_flat_picture_near_the_runs_own_weights_shows_a_frame_and_is_refused_for_its_quiet_gradient(
    tries: int,
    real_sites: Sites,
    hospital: Hospitals,
    record: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Off are the history and the floor; then the hospital is led there, one allowed step a round."""
    off, on, reasons, lengths = [], [], set(), []
    for seed, of, known in turns(tries):
        task, first, data = training(seed, learning_rate=1e-5), initial_arrays(MODEL, seed), real_sites[of]
        sent = flat_weights(first, intensities(real_sites[known]), seed, NEARLY * Limits().max_weight_change)
        with monkeypatch.context() as context:
            without_history(context)
            without_floor(context)
            off.append(read_pixels(hospital(of).ask(task, sent), sent, data, task))
        led = lead(hospital(of), [first, *path(first, sent, *STEP)], task)
        reasons.add(led.refused)
        lengths.append(led.task.round)
        on.append(read_pixels(led.reply, led.sent, data, led.task))

    record("flat", off=summary(off), on=summary(on), refused=sorted(reasons), rounds=max(lengths))
    assert summary(off)["correlation"] > 0.9
    assert reasons == {Reason.OFF_COURSE}
    assert caplog.text.count("of a step's gradient below") == tries
    assert summary(on)["correlation"] < 0.9


@pytest.mark.attacks
def test_weights_led_into_a_trap_by_small_steps_show_more_than_a_neighbour_but_not_the_frame(
    real_sites: Sites,
    hospital: Hospitals,
    honest: Arrays,
    record: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From honest weights that the hospital has trained on; off is a sharper trap than the limits let be reached."""
    off, on, refused, lengths = [], [], set(), []
    origins, bound = (honest, initial_arrays(MODEL, 0)), NEARLY * Limits().max_weight_change
    for seed, of, known in turns(21):
        frames, data = intensities(real_sites[known]), real_sites[of]
        task, sent = training(seed, learning_rate=1e-5), trapped(honest, frames, seed)
        with monkeypatch.context() as context:
            without_history(context)
            off.append(read_trap(hospital(of).ask(task, sent), sent, honest, data, task))
        end = sharpest(honest, origins, frames, seed, bound)
        assert max(largest(end, origin) for origin in origins) < Limits().max_weight_change
        allowed = Limits(start_models=(digest(honest),))
        led = lead(hospital(of, allowed), [honest, *path(honest, end, *STEP)], task)
        refused |= {led.refused} - {None}
        lengths.append(led.task.round)
        on.append(read_trap(led.reply, led.sent, honest, data, led.task))

    record("drift", off=summary(off), on=summary(on), refused=sorted(refused), rounds=max(lengths))
    assert max(largest(sent, origin) for origin in origins) > Limits().max_weight_change
    assert min(lengths) > 4  # rounds in which its ledger shows the weights move, and its quality stays
    assert summary(on)["correlation"] < 0.9
