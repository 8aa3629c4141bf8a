"""A frame out of updates: by the coordinator's own recipe, and by the hospital's with weights made by hand.

The tries are spread over three hospitals' real frames. Where a mechanism is off, it is off in the test alone.
"""

from collections.abc import Callable, Iterator
from itertools import cycle

import numpy as np
import pytest
from numpy.typing import NDArray

from roiae.contract import Arrays, Reply, TrainTask
from roiae.data.site_data import SiteData
from roiae.errors import Reason
from roiae.shift.latents import digest
from roiae.training import initial_arrays
from roiae_client.site_config import Limits
from roiae_client.weights_history import ONE_WEIGHT
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
from tests.attacks.hospital import NO_RECIPE, SITES, Hospital, seen, training, update_of, without_floor, without_history
from tests.attacks.likeness import NOTHING, Likeness, best_likeness, reduced, summary
from tests.attacks.training import federated
from tests.attacks.trap import path, trapped

pytestmark = [pytest.mark.real_frames, pytest.mark.timeout(3600)]

TRIES = [
    pytest.param(3, id="some", marks=pytest.mark.slow),
    pytest.param(21, id="all", marks=pytest.mark.attacks),
]
# As a hospital allows from one round to the next, less what rounding takes: L2 norm, and of one number.
STEP = (0.99 * Limits().max_update_norm, 0.99 * ONE_WEIGHT * Limits().max_update_norm)
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
            reply = asked.ask(training(seed, round=round_), sent)
            assert isinstance(reply, Reply)
            updates.append(update_of(reply, sent, FEATURES))
        mixed = [np.mean(updates, axis=0), *(updates[0] - other for other in updates[1:])]
        pictures = reduced(np.concatenate([decoded_rows(sent, update) for update in mixed]), SIDE)
        found.append(best_likeness(pictures, reduced(seen(real_sites[of].train, training(seed)), SIDE)))

    record("several", on=summary(found))
    assert summary(found)["correlation"] < summary(found)["neighbour_correlation"]


@pytest.mark.attacks
def test_weights_led_into_a_trap_by_small_steps_show_about_as_much_as_a_neighbour(
    real_sites: Sites, hospital: Hospitals, record: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From honest weights that the hospital has trained on; each step as long as a round of clipped updates."""
    off, on, refused, lengths = [], [], [], []
    honest_of = {of: federated([real_sites[other].train for other in SITES if other != of]) for of in SITES}
    for seed, of, known in turns(21):
        honest = honest_of[of]
        frames = intensities(real_sites[known])
        sent = trapped(honest, frames, seed)
        task = training(seed, learning_rate=1e-5)
        with monkeypatch.context() as context:
            without_history(context)
            off.append(read_features(hospital(of).ask(task, sent), sent, real_sites[of], task))
        asked = hospital(of, Limits(start_models=(digest(honest),)))
        assert isinstance(asked.ask(task, honest), Reply)
        steps = path(honest, sent, *STEP)
        lengths.append(len(steps))
        replies = [asked.ask(training(seed, learning_rate=1e-5, round=n), at) for n, at in enumerate(steps, 2)]
        refused += [reply for reply in replies if isinstance(reply, Reason)]
        last = training(seed, learning_rate=1e-5, round=len(steps) + 1)
        on.append(read_features(replies[-1], steps[-1], real_sites[of], last))

    record("drift", off=summary(off), on=summary(on), refused=sorted(set(refused)), rounds=max(lengths))
    assert min(lengths) > 5  # rounds in which its ledger shows the weights move, and its quality stay
