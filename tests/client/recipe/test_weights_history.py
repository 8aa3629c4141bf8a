"""Whatever a coordinator sends, only weights that follow from what the site has seen are trained on."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roiae.errors import DataError, Reason, RefusalError
from roiae.method.metrics import Quality
from roiae.method.training import Training, initial_arrays
from roiae.shift.latents import digest
from roiae.wire.contract import Arrays, EvaluateTask, TrainTask
from roiae_client.folder.site_config import Limits
from roiae_client.recipe import capacity
from roiae_client.recipe.spending import Asked, Spending, Spent
from roiae_client.recipe.weights_history import MAX_MISSED, ROUNDING, SIGHTED_PASSES, Received, WeightsHistory
from roiae_client.recipe.weights_state import MAX_ANCHORS, MAX_RUNS
from tests.conftest import MODEL

LIMITS = Limits()
BOUND = LIMITS.max_update_norm
INITIAL = initial_arrays(MODEL, 0)
NAME = "encoder.6.weight"
FRAMES = 200  # in batches of four: ten passes are as many steps as a run may take to see what is in a frame


def quality(ms_ssim: float = 0.5, frames: int = 20) -> Quality:
    return Quality(ms_ssim=ms_ssim * frames, frames=frames)


def moved(arrays: Arrays, norm: float, seed: int = 0) -> Arrays:
    """Weights this far away, in a direction in which no weight moves much farther than the others."""
    rng = np.random.default_rng(seed)
    steps = {name: rng.standard_normal(array.shape) for name, array in arrays.items()}
    length = np.sqrt(sum(np.square(step).sum() for step in steps.values()))
    return {name: (array + steps[name] * norm / length).astype(np.float32) for name, array in arrays.items()}


class Site:
    """As the responder asks its history, and writes its ledger."""

    def __init__(self, folder: Path, task: TrainTask, limits: Limits = LIMITS) -> None:
        self.folder, self._task, self.limits = folder, task, limits
        self.ledger, self.history = Spending(), WeightsHistory(folder, limits)

    def train(
        self,
        arrays: Arrays,
        round_: int,
        received: Quality | None = None,
        run: str = "r",
        own: float = 0.0,
        quiet: float = 0.0,
        **task: Any,
    ) -> None:
        asked = self._task.model_copy(update={"round": round_, **task})
        weights = digest(arrays)
        of = Received(run, asked, arrays, weights, self.ledger.of(run), FRAMES, self.blind)
        guard = self.history.admit(of)
        guard.received(received or quality())
        guard.trained(Training({}, {}, FRAMES, 1.0, quiet), lambda: own)
        self.ledger.note(run, "train", "", Asked(weights, round_, asked.local_epochs))

    def evaluate(self, arrays: Arrays, received: Quality | None = None) -> None:
        task = EvaluateTask(model=MODEL, batch_size=4, threads=1)
        received_ = Received("r", task, arrays, digest(arrays), self.ledger.of("r"), FRAMES, self.blind)
        self.history.admit(received_).received(received or quality())

    def blind(self) -> float:
        return 0.3

    def has_learned(self) -> None:
        self.ledger.note("r", "train", "", Asked(digest(INITIAL), 1, 10))

    def loses_its_state(self) -> None:
        for file in sorted(self.folder.rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()


@pytest.fixture
def site(tmp_path: Path, recipe: TrainTask) -> Site:
    return Site(tmp_path / "weights", recipe)


def refused(question: Callable[[], object]) -> str:
    with pytest.raises(RefusalError) as refusal:
        question()
    assert refusal.value.reason is Reason.OFF_COURSE
    return str(refusal.value)


def test_a_run_begins_with_its_own_initialisation(site: Site) -> None:
    site.train(INITIAL, 1)


def test_another_processors_last_bits_of_the_initialisation_are_taken(site: Site) -> None:
    site.train({name: array * np.float32(1 + 1e-6) for name, array in INITIAL.items()}, 1)


def test_a_site_that_missed_the_first_rounds_takes_part_while_the_weights_lie_within_one(site: Site) -> None:
    site.train(moved(INITIAL, 0.9 * LIMITS.max_update_norm), 4)

    refused(lambda: Site(site.folder / "later", site._task).train(moved(INITIAL, 1.1 * LIMITS.max_update_norm), 9))


@pytest.mark.parametrize("seed", [1, 7])
def test_another_seeds_initialisation_is_refused(site: Site, seed: int) -> None:
    message = refused(lambda: site.train(initial_arrays(MODEL, seed), 1))

    assert "farther than a round from the run's own initialisation" in message
    assert digest(initial_arrays(MODEL, seed)) in message


def test_weights_that_are_made_by_hand_are_refused_at_once_and_after_any_round(site: Site) -> None:
    by_hand = {name: np.zeros_like(array) for name, array in INITIAL.items()} | {NAME: np.ones_like(INITIAL[NAME])}
    refused(lambda: site.train(by_hand, 1))
    site.train(INITIAL, 1)
    refused(lambda: site.train(by_hand, 2))
    refused(lambda: site.train(by_hand, 1 + MAX_MISSED))


def test_the_initialisation_is_no_way_back_once_the_run_has_trained_elsewhere(site: Site) -> None:
    site.train(INITIAL, 1)
    site.train(moved(INITIAL, 5), 2)
    site.train(INITIAL, 3)  # seen before

    other = Site(site.folder / "other", site._task)
    other.ledger.note("r", "train", "", Asked("f" * 64, 5, 1))
    refused(lambda: other.train(INITIAL, 6))  # trained on others, and never on these


@given(
    st.lists(st.tuples(st.floats(0.01, 0.99), st.integers(1, 1 + MAX_MISSED), st.booleans()), min_size=1, max_size=6),
    st.integers(0, 3),
)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_honest_rounds_are_taken_also_where_some_were_missed_or_are_asked_again(
    tmp_path_factory: pytest.TempPathFactory, recipe: TrainTask, rounds: list[tuple[float, int, bool]], seed: int
) -> None:
    site = Site(tmp_path_factory.mktemp("weights"), recipe)
    arrays, round_ = INITIAL, 1
    site.train(arrays, round_)
    site.has_learned()
    for number, (share, passed, again) in enumerate(rounds):
        arrays = moved(arrays, share * BOUND * np.sqrt(passed), seed + number)
        round_ += passed
        site.train(arrays, round_)
        if again:
            site.train(arrays, round_)
    site.evaluate(moved(arrays, 0.9 * BOUND, 99))


@given(st.floats(1.05, 100.0), st.integers(1, 100))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_jump_is_refused_however_many_rounds_are_said_to_have_passed(
    tmp_path_factory: pytest.TempPathFactory, recipe: TrainTask, share: float, passed: int
) -> None:
    site = Site(tmp_path_factory.mktemp("weights"), recipe)
    site.train(INITIAL, 1)
    site.has_learned()
    bound = BOUND * np.sqrt(min(passed, 1 + MAX_MISSED))

    message = refused(lambda: site.train(moved(INITIAL, share * bound), 1 + passed))
    assert f"rounds of clipped updates allow {bound * ROUNDING:.4g}" in message


def test_updates_that_were_all_clipped_may_add_up_to_the_bound(site: Site) -> None:
    site.train(INITIAL, 1)
    site.train(moved(INITIAL, BOUND), 2)


def test_in_a_runs_first_passes_no_absence_is_believed(site: Site) -> None:
    site.train(INITIAL, 1)

    refused(lambda: site.train(moved(INITIAL, 1.1 * BOUND), 2 + MAX_MISSED))
    site.has_learned()
    site.train(moved(INITIAL, 1.1 * BOUND), 2 + MAX_MISSED)


def test_weights_that_show_one_picture_for_all_frames_are_refused_once_the_run_has_trained_here(site: Site) -> None:
    site.train(INITIAL, 1, quality(0.2))
    site.train(moved(INITIAL, 5), 2, quality(0.29))
    site.has_learned()

    message = refused(lambda: site.train(moved(INITIAL, 6), 3, quality(0.3)))
    assert "one picture for all of them has 0.3" in message
    site.train(moved(INITIAL, 6), 3, quality(0.31))


@pytest.mark.parametrize(
    ("frames", "passes", "learned"),
    [(200, 9, False), (200, 10, True), (16, 12, False), (16, SIGHTED_PASSES, True), (0, 39, False), (0, 40, True)],
)
def test_small_sites_have_more_passes_before_their_weights_have_to_see(
    recipe: TrainTask, frames: int, passes: int, learned: bool
) -> None:
    received = Received("r", recipe, INITIAL, "", Spent(passes=passes), frames, lambda: 0.0)

    assert received.learned is learned


def test_one_weight_that_moves_alone_is_refused_though_the_whole_moves_little(site: Site) -> None:
    site.train(INITIAL, 1)
    alone = {name: array.copy() for name, array in INITIAL.items()}
    alone[NAME][0, 0] += np.float32(1.0)

    assert f"in one weight of {NAME}" in refused(lambda: site.train(alone, 2))


@pytest.mark.parametrize("worse", [0.34, float("nan")])
def test_weights_that_reconstruct_worse_than_the_best_before_them_are_refused(site: Site, worse: float) -> None:
    site.train(INITIAL, 1, quality(0.2))
    site.train(moved(INITIAL, 5), 2, quality(0.5))
    site.train(moved(INITIAL, 6), 3, quality(0.42))  # a little worse, and no new measure

    assert "MS-SSIM" in refused(lambda: site.train(moved(INITIAL, 7), 4, quality(worse)))
    refused(lambda: site.evaluate(moved(INITIAL, 7), quality(worse)))


def test_over_few_validation_frames_a_worse_quality_is_less_surprising(site: Site) -> None:
    site.train(INITIAL, 1, quality(0.7, frames=5))
    refused(lambda: site.train(moved(INITIAL, 5), 2, quality(0.39, frames=5)))
    site.train(moved(INITIAL, 5), 2, quality(0.41, frames=5))


def test_the_control_arm_goes_back_to_where_phase_1_ended_and_both_ends_are_scored(site: Site) -> None:
    ends = two_phases(site)
    site.train(ends["phase1"], 4, learning_rate=5e-4)
    control = moved(ends["phase1"], 0.9 * BOUND, 8)
    site.train(control, 5, learning_rate=1e-3)
    for arm in ends.values():
        site.evaluate(moved(arm, 0.5 * BOUND, 9))
    site.evaluate(moved(control, 0.5 * BOUND, 9))


def test_a_control_arm_whose_first_round_was_missed_is_taken(site: Site) -> None:
    ends = two_phases(site)

    site.train(moved(ends["phase1"], 0.9 * BOUND, 8), 5, learning_rate=1e-3)


def two_phases(site: Site) -> dict[str, Arrays]:
    """Three rounds of each; the weights after each, by phase."""
    arrays = INITIAL
    ends: dict[str, Arrays] = {}
    for round_, (rate, phase) in enumerate(
        [(5e-4, ""), (1e-3, ""), (1e-4, ""), (5e-4, "phase1"), (1e-3, ""), (1e-4, "phase2")], start=1
    ):
        site.train(arrays, round_, learning_rate=rate)
        if phase:
            ends[phase] = arrays
        arrays = moved(arrays, 0.95 * BOUND, round_)
    site.has_learned()
    return ends


def test_a_few_weights_are_kept_however_long_the_run(site: Site) -> None:
    arrays = INITIAL
    for round_ in range(1, 12):
        site.train(arrays, round_, learning_rate=1e-4 * round_)
        arrays = moved(arrays, 1.0, round_)

    assert len(list(site.folder.rglob("*.safetensors"))) <= MAX_ANCHORS


def test_weights_that_would_fill_the_disk_are_refused_before_they_are_trained_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "free_disk", lambda folder: float(capacity.LEFT_FREE))

    with pytest.raises(RefusalError, match="to keep its weights") as refusal:
        site.train(INITIAL, 1)
    assert refusal.value.reason is Reason.TASK_TOO_LARGE
    assert not site.folder.exists()


def test_of_the_runs_the_latest_ones_weights_are_kept(site: Site) -> None:
    for run in range(MAX_RUNS + 3):
        site.train(INITIAL, 1, run=f"run-{run}/../..")

    assert len(list(site.folder.rglob("*.safetensors"))) == MAX_RUNS
    assert len(list(site.folder.iterdir())) == MAX_RUNS + 3


def test_other_runs_make_a_site_forget_neither_the_best_quality_nor_the_recipe_of_one(site: Site) -> None:
    worse = moved(INITIAL, 5, 1)
    site.train(INITIAL, 1, quality(0.7))
    site.train(worse, 2, quality(0.6))
    for run in range(MAX_RUNS):
        site.train(INITIAL, 1, run=f"other-{run}")

    with pytest.raises(RefusalError, match="began with clip_norm"):
        site.train(worse, 3, quality(0.6), clip_norm=0.5)
    site.train(worse, 3, quality(0.6))
    assert "0.7 and 0.15 less" in refused(lambda: site.train(moved(worse, 5, 2), 4, quality(0.5)))


def test_weights_that_were_trained_on_long_ago_do_not_begin_with_a_lower_best(site: Site) -> None:
    arrays = [INITIAL]
    for round_ in range(2 * MAX_ANCHORS):
        site.train(arrays[-1], round_ + 1, quality(0.7 if round_ == 0 else 0.6), learning_rate=1e-4 * (round_ + 1))
        arrays.append(moved(arrays[-1], 1.0, round_))

    site.train(arrays[1], 20, quality(0.6))
    assert "0.7 and 0.15 less" in refused(lambda: site.train(moved(arrays[1], 5, 99), 21, quality(0.5)))


def test_an_evaluation_after_a_loss_is_refused_until_the_site_has_trained(site: Site) -> None:
    site.train(INITIAL, 1)
    site.loses_its_state()
    now = moved(INITIAL, 5, 2)
    refused(lambda: site.train(now, 2))
    site.history = WeightsHistory(site.folder, LIMITS.model_copy(update={"start_models": (digest(now),)}))

    site.evaluate(now)
    assert "has trained on none" in refused(lambda: site.evaluate(moved(now, 1, 3)))


def test_a_site_that_lost_its_state_goes_on_once_its_own_it_allows_the_digest(site: Site) -> None:
    now = moved(INITIAL, 10, 2)
    site.train(INITIAL, 1)
    site.train(now, 2)
    site.loses_its_state()

    later = moved(now, 5, 3)
    assert digest(later) in refused(lambda: site.train(later, 3))
    site.history = WeightsHistory(site.folder, LIMITS.model_copy(update={"start_models": (digest(later),)}))
    refused(lambda: site.train(moved(later, 1.1 * BOUND), 3))  # a digest lets in itself, and what follows
    site.train(later, 3)
    site.train(moved(later, 5, 4), 4)


def test_vouched_weights_are_followed_though_the_run_has_gone_on_meanwhile(site: Site) -> None:
    site.train(INITIAL, 1)
    site.has_learned()
    site.loses_its_state()
    arrays, seen = moved(INITIAL, 5, 2), {}
    for round_ in range(20, 32):
        seen[round_] = arrays
        message = refused(lambda: site.train(seen[round_], round_))  # noqa: B023
        arrays = moved(arrays, 5, round_)

    assert [round_ for round_, of in seen.items() if digest(of) in message] == [20, 25, 30, 31]  # and the one itself
    site.history = WeightsHistory(site.folder, LIMITS.model_copy(update={"start_models": (digest(seen[25]),)}))
    refused(lambda: site.train(moved(seen[25], 4 * BOUND), 32))
    site.train(arrays, 32)
    assert len(list(site.folder.rglob("*.safetensors"))) == 1
    site.history = WeightsHistory(site.folder, LIMITS)
    site.train(moved(arrays, 5, 33), 33)


def test_refused_weights_that_nobody_vouches_for_are_no_way_in(site: Site) -> None:
    site.train(INITIAL, 1)
    by_hand = moved(INITIAL, 10 * BOUND)
    for round_ in range(2, 30):
        refused(lambda: site.train(by_hand, round_))  # noqa: B023
        refused(lambda: site.train(moved(by_hand, 1), round_))  # noqa: B023


def test_a_request_that_was_sent_again_needs_no_state(site: Site) -> None:
    site.train(INITIAL, 1)
    site.train(moved(INITIAL, 5), 2)
    site.loses_its_state()

    site.train(moved(INITIAL, 5), 2)  # the ledger has its digest


def test_an_evaluation_does_not_make_weights_known_for_training(site: Site) -> None:
    site.train(INITIAL, 1)
    site.has_learned()
    far = moved(INITIAL, 2 * BOUND)
    site.evaluate(far)

    refused(lambda: site.train(far, 2))


def test_what_was_never_trained_on_here_is_not_evaluated_either(site: Site) -> None:
    refused(lambda: site.evaluate(INITIAL))


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"batch_size": 8}, {"model": MODEL.model_copy(update={"width": 8})}, {"weight_decay": 0.5}]
)
def test_a_run_keeps_the_model_and_the_recipe_that_it_began_with(site: Site, change: dict[str, Any]) -> None:
    site.train(INITIAL, 1)
    with pytest.raises(RefusalError) as refusal:
        site.train(INITIAL, 2, **change)

    assert refusal.value.reason is Reason.NOT_ALLOWED


def test_refused_arrays_that_are_not_the_models_are_not_kept(site: Site) -> None:
    site.train(INITIAL, 1)
    site.loses_its_state()
    with pytest.raises(RefusalError) as refusal:
        site.train({**moved(INITIAL, 5), "more": np.zeros(10**6, np.float32)}, 2)

    assert refusal.value.reason is Reason.ARRAYS_MISMATCH
    assert not list(site.folder.rglob("*.safetensors"))


def test_a_damaged_state_is_one_message_and_lets_nothing_pass(site: Site) -> None:
    site.train(INITIAL, 1)
    next(site.folder.rglob("course.json")).write_text("{")

    with pytest.raises(DataError, match="is damaged"):
        site.train(INITIAL, 2)


def test_nothing_of_the_state_is_a_frame_or_a_name(site: Site) -> None:
    site.train(INITIAL, 1, run="the-run")

    files = {path.name for path in site.folder.rglob("*") if path.is_file()}
    assert files == {"course.json", f"{digest(INITIAL)}.safetensors"}
    assert [path.name for path in site.folder.iterdir()] == [hashlib.sha256(b"the-run").hexdigest()[:16]]


def test_weights_that_fall_behind_what_the_site_made_of_the_last_ones_are_refused(site: Site) -> None:
    site.train(INITIAL, 1, quality(0.2), own=0.45)

    message = refused(lambda: site.train(moved(INITIAL, 5), 2, quality(0.18)))
    assert "MS-SSIM 0.18" in message and "0.45" in message
    site.train(moved(INITIAL, 5), 2, quality(0.4))


def test_what_the_site_itself_makes_of_weights_is_measured_in_the_first_rounds_alone(site: Site) -> None:
    site.train(INITIAL, 1)
    site.has_learned()

    site.train(moved(INITIAL, 5), 2, own=0.9)  # else the next would be refused
    site.train(moved(moved(INITIAL, 5), 5, seed=1), 3)


def test_no_update_leaves_of_weights_that_silence_the_gradient(site: Site) -> None:
    assert "below 1e-08" in refused(lambda: site.train(INITIAL, 1, quiet=0.2))

    site.train(INITIAL, 1, quiet=0.05)


def test_small_steps_lead_no_weight_far_from_where_the_run_began(site: Site) -> None:
    def led(by: float) -> Arrays:
        return INITIAL | {NAME: INITIAL[NAME] + np.float32(by) * np.eye(*INITIAL[NAME].shape, dtype=np.float32)}

    site.train(INITIAL, 1)
    for round_ in range(2, 8):
        site.train(led(0.16 * (round_ - 1)), round_)

    assert "limits.max_weight_change is 1" in refused(lambda: site.train(led(1.12), 8))
    refused(lambda: site.evaluate(led(1.12)))


def test_a_start_model_that_is_allowed_is_a_beginning_like_the_runs_own(tmp_path: Path, recipe: TrainTask) -> None:
    start = {name: array + np.float32(3) for name, array in INITIAL.items()}
    site = Site(tmp_path / "weights", recipe, Limits(start_models=(digest(start),)))
    site.train(start, 1)

    site.train(moved(start, 5), 2)
    site.history = WeightsHistory(site.folder, LIMITS)  # taken out of site.yaml again
    site.train(moved(moved(start, 5), 5, seed=1), 3)
