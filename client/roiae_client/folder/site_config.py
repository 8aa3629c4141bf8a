"""`site.yaml`: what a hospital has decided about its own part; nothing that a coordinator sends can change it."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from roiae.config import Device, MinimumConfig, PrivacyConfig, Role, descriptions, flatten, read_settings
from roiae.errors import ConfigError
from roiae.identity.kit import Name
from roiae.schema_errors import explained
from roiae.wire.envelope import Digest

SITE_CONFIG = "site.yaml"

# Statistics, probe steps and scores tell more of a site's latents than sums of errors do: see docs/SHIFT.md.
RequestKind = Literal["train", "evaluate", "query.keys", "query.statistics", "query.probe", "query.scores"]
ALLOWED_BY_DEFAULT: tuple[RequestKind, ...] = ("train", "evaluate")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


OptimizerName = Literal["adamw", "sgd"]

# Settings of an earlier site.yaml, and what to write instead.
REPLACED = {
    "limits.max_image_size": "leave it out: limits.max_hours_per_request and the memory that is free bound a task",
    "limits.max_parameters": "leave it out: limits.max_hours_per_request and the memory that is free bound a task",
    "limits.max_batch_size": "leave it out: the memory that is free bounds a task",
    "limits.min_local_steps": "limits.min_frames and limits.min_batch_size, which bound one frame's share",
}


class MaxRequests(_Section):
    """Requests of each kind that one run may make; one that is asked again because its answer was lost counts again."""

    train: int = Field(200, ge=0, description="stops weights that are changed a little at a time, over many updates")
    evaluate: int = Field(12, ge=0, description="stops questions that are put together to one frame's value")
    keys: int = Field(6, ge=0, description="stops a scoring that is begun again and again")
    statistics: int = Field(6, ge=0, description="stops sums over nearly the same latents")
    probe: int = Field(120, ge=0, description="stops a probe that never ends")
    scores: int = Field(6, ge=0, description="stops scores that are put together to one frame's latent")

    def of(self, kind: RequestKind) -> int:
        return int(getattr(self, kind.removeprefix("query.")))


class Limits(_Section):
    """What this site answers, and to what extent: each limit names the attack that it stops."""

    requests: frozenset[RequestKind] = Field(
        frozenset(ALLOWED_BY_DEFAULT),
        description="stops statistics and scores of latents; query.keys, .statistics, .probe and .scores may be added, "
        "see docs/SHIFT.md",
    )
    optimizers: frozenset[OptimizerName] = Field(
        frozenset({"adamw"}),
        description="stops sgd, whose update is the plain sum of what each frame asks for, so that one can be read off",
    )
    max_learning_rate: float = Field(
        0.003, gt=0, description="stops one step from outgrowing all others, so that the update is one batch's alone"
    )
    min_batch_size: int = Field(
        4,
        ge=1,
        description="stops a step on a single frame, whose gradient shows the frame; "
        "one fewer where the frames do not divide",
    )
    max_clip_norm: float = Field(
        1.0,
        gt=0,
        allow_inf_nan=False,
        description="stops one batch from outgrowing all others; a request without clipping is refused",
    )
    require_augmentation: bool = Field(
        True, description="stops training on the frames as they are: each is flipped, shifted and dimmed by chance"
    )
    max_local_epochs: int = Field(10, ge=1, description="stops one update from learning the frames by heart")
    max_passes: int = Field(
        400, ge=1, description="over the training split in one run; stops weights that are led away a little at a time"
    )
    max_requests: MaxRequests = MaxRequests()
    max_runs: int = Field(20, ge=1, description="stops a coordinator that begins a new run when a budget is spent")
    min_frames: int = Field(20, ge=1, description="behind every number that leaves; stops one that speaks of one frame")
    min_subjects: int = Field(10, ge=1, description="as min_frames; stops a number that speaks of one patient")
    max_hours_per_request: float = Field(
        4.0, gt=0, description="stops a task that would keep this machine busy, by a forecast from one step"
    )
    max_update_norm: float = Field(
        20.0,
        gt=0,
        description="L2 norm an update is clipped to, and that weights move in a round; stops weights made by hand",
    )
    max_weight_change: float = Field(
        1.0,
        gt=0,
        description="of one weight from where its run began; stops weights of large numbers, led there over many "
        "rounds; 0.4 in a default run on 160 frames, and more as the root of the steps",
    )
    start_models: tuple[Digest, ...] = Field(
        (),
        description="digests of weights that are trained on wherever they come from; none stops all made by hand",
    )

    def as_numbers(self) -> dict[str, float]:
        """As the handshake tells them, so that a coordinator sees before the first round what would be refused."""
        numbers = {f"limits.requests.{kind}": 1.0 for kind in self.requests}
        numbers |= {f"limits.optimizers.{name}": 1.0 for name in self.optimizers}
        for name, value in flatten(self.model_dump(exclude={"requests", "optimizers", "start_models"})):
            numbers[f"limits.{name}"] = float(value)
        return dict(sorted(numbers.items()))

    @property
    def minimum(self) -> MinimumConfig:
        return MinimumConfig(frames=self.min_frames, subjects=self.min_subjects)


class SiteConfig(_Section):
    """A hospital's own settings."""

    name: Name = Field(
        description="this hospital's name in the federation; the key carries it, so it is not changed here"
    )
    role: Role | None = Field(None, description="agreed at enrolment; `join` fills it in")
    data: Path = Field(description="folder with manifest.csv and its images; may be read-only")
    threads: Annotated[int, Field(ge=1, le=256)] | None = Field(None, description="CPU threads; null for all cores")
    device: Device = Field(
        "auto", description="what trains: auto, cpu, cuda or mps; auto takes a GPU where there is one"
    )
    ca_bundle: Path | None = Field(
        None, description="CA certificates, PEM, that are trusted besides the federation's: of a proxy that opens TLS"
    )
    validation_share: float = Field(0.2, gt=0, lt=1, description="share of the subjects kept from training")
    max_bad_share: float = Field(0.0, ge=0, lt=1, description="share of unusable frames set aside before a run stops")
    limits: Limits = Limits()
    privacy: PrivacyConfig = PrivacyConfig()


def read_site_config(folder: Path) -> SiteConfig:
    """A hospital's settings; a relative data folder is relative to the hospital's own.

    Raises:
        ConfigError: the file is missing, or a setting is unknown, ill-typed or impossible.
    """
    path = folder / SITE_CONFIG
    settings = read_settings(path)
    try:
        config = SiteConfig.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(f"{path}: " + "\n  ".join(_explained(error))) from None
    bundle = (folder / config.ca_bundle).resolve() if config.ca_bundle else None
    return config.model_copy(update={"data": (folder / config.data).resolve(), "ca_bundle": bundle})


def _explained(error: ValidationError) -> list[str]:
    """A line for each setting; of some that are often written otherwise, what to write instead."""
    known = [name for name, _ in descriptions(SiteConfig)]
    lines = []
    for line in explained(error, known, "docs/HOSPITAL.md lists the settings."):
        key = line.partition(":")[0]
        if key in REPLACED:
            line = f"{key}: is no longer a setting; {REPLACED[key]}"
        elif key.startswith("limits.start_models"):
            line = f"{key}: expected digests of 64 letters and digits, as log/executor.log and the ledger have them"
        elif key.startswith("limits.") and line.endswith("found None."):
            line = f"{key}: no limit is switched off; expected a value, a large one where it should stop nothing"
        lines.append(line)
    return lines
