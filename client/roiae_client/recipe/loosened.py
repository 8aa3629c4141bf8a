"""What a hospital gives away where it has loosened one of its limits: one sentence each, for IT to read."""

from collections.abc import Iterator, Mapping

from roiae.config import descriptions, flatten
from roiae_client.folder.site_config import ALLOWED_BY_DEFAULT, Limits

# Of each limit that a larger or smaller number loosens.
_GIVES_AWAY: Mapping[str, str] = {
    "max_learning_rate": "one step may outgrow the others, and the update then shows the batch it was made on",
    "min_batch_size": "a step on so few frames has a gradient that shows them",
    "max_clip_norm": "one batch may outgrow the others in an update",
    "max_local_epochs": "an update may learn single frames by heart",
    "max_passes": "a coordinator has more steps in which to lead the weights to where they show frames",
    "max_requests": "more answers can be put together to what one frame is",
    "max_runs": "a coordinator that has spent a budget begins anew more often",
    "min_frames": "a number that leaves may speak of so few frames",
    "min_subjects": "a number that leaves may speak of so few patients",
    "max_hours_per_request": "one request may keep this machine busy for so long",
    "max_weight_change": "weights that were made by hand can be led here in the end, however small the steps",
    "max_update_norm": "weights that were made by hand reach this site in fewer rounds",
}
_QUERIES = "others learn more of this site's latents than sums of errors tell; docs/SHIFT.md says what"
_SGD = "its update is the plain sum of what each frame asks for, from which crafted weights read a frame"
_PLAIN = "the network is trained on the frames as they are, and an update can show them so"
_MODELS = "weights of these digests are trained on wherever they come from: remove them once the run has gone on"


def what_limits_stop() -> Iterator[tuple[str, str]]:
    """Every limit by name, and what it stops."""
    yield from descriptions(Limits)


def loosened(limits: Limits) -> Iterator[str]:
    """A sentence for each limit that lets through more than the one as shipped."""
    shipped = dict(flatten(Limits().model_dump()))
    for kind in sorted(limits.requests - set(ALLOWED_BY_DEFAULT)):
        yield f"requests names {kind}: {_QUERIES}"
    for optimizer in sorted(limits.optimizers - Limits().optimizers):
        yield f"optimizers names {optimizer}: {_SGD}"
    if not limits.require_augmentation:
        yield f"require_augmentation is false: {_PLAIN}"
    for name, value in flatten(limits.model_dump()):
        why = _GIVES_AWAY.get(name.partition(".")[0], "")
        if why and name.startswith("max_") and value > shipped[name]:
            yield f"{name} {value:g} is above {shipped[name]:g}: {why}"
        if why and name.startswith("min_") and value < shipped[name]:
            yield f"{name} {value:g} is below {shipped[name]:g}: {why}"
    if limits.start_models:
        yield f"start_models names {len(limits.start_models)}: {_MODELS}"
