"""The configuration of a run: strict, with every default written out, and one message for each mistake.

A file, a shipped preset and `--set key=value` name the same dotted keys (`phase1.rounds`). What a run resolved to is
written to its `config.yaml`, and that file is itself a valid configuration.
"""

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from roiae.errors import ConfigError
from roiae.schema_errors import explained, kind_of

IMAGE_SIZE_STEP = 32  # the encoder halves five times
LOSS_TERMS = ("ms_ssim", "roi_l1", "roi_edge")  # the names of roiae.method.losses.TERMS, without loading torch
IMAGE_SIZE_MIN = 192  # five MS-SSIM scales of an 11-pixel window need more than 160; the next multiple of 32 is taken

StrategyName = Literal["fedavg", "fedprox", "fedadam", "fedmedian", "fedtrimmedavg"]
Precision = Literal["float32", "bfloat16"]  # what `auto` resolves to
Upload = Literal["float32", "float16"]
Device = Literal["auto", "cpu", "cuda", "mps"]

_TABLES = {"phase2.weights"}  # settings whose value is a mapping: one setting, however many names it has


def takes_image_size(side: int) -> bool:
    """Whether the model takes square frames of this side, in px."""
    return side >= IMAGE_SIZE_MIN and side % IMAGE_SIZE_STEP == 0


class Role(StrEnum):
    """A held-out site evaluates and never contributes to weights or calibration."""

    SOURCE = "source"
    HELD_OUT = "held-out"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelConfig(_Section):
    image_size: int = Field(
        256, le=4096, description="side of the square a frame is resized to, px; a multiple of 32 from 192"
    )
    width: int = Field(16, ge=8, le=256, multiple_of=8, description="channels at a quarter of the resolution")
    latent_dim: int = Field(128, ge=2, le=1024, description="length of the code")

    @field_validator("image_size")
    @classmethod
    def _fits(cls, side: int) -> int:
        if not takes_image_size(side):
            raise ValueError(f"a multiple of {IMAGE_SIZE_STEP} from {IMAGE_SIZE_MIN}")
        return side


class PhaseConfig(_Section):
    rounds: int = Field(ge=1, le=10_000, description="federated rounds")
    local_epochs: int = Field(ge=1, le=100, description="passes over its training split that a site makes in a round")


class Phase2Config(PhaseConfig):
    rounds: int = Field(ge=2, le=10_000, description="federated rounds; the first one calibrates the weights")
    weights: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None = Field(
        None, description="of the loss terms, set by hand: `{ms_ssim: 1, roi_l1: 1, roi_edge: 1}`; null to calibrate"
    )

    @field_validator("weights")
    @classmethod
    def _covers_all_terms(cls, weights: dict[str, float] | None) -> dict[str, float] | None:
        if weights is not None and set(weights) != set(LOSS_TERMS):
            raise ValueError(f"a weight for each of {', '.join(LOSS_TERMS)}")
        return weights


class TrainConfig(_Section):
    batch_size: int = Field(4, ge=1, le=4096, description="frames a step")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="peak of each phase's schedule")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="a fresh one each round; sgd is plain, no momentum")
    weight_decay: float = Field(1e-2, ge=0, le=1, description="AdamW's decoupled decay")
    clip_norm: float | None = Field(1.0, gt=0, description="largest gradient norm of a step; null for none")
    augment: bool = Field(True, description="flip, shift and gain on the training frames")
    device: Device = Field("auto", description="of simulated hospitals; a real one's is in its site.yaml")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the network; losses, and the first fifth of a phase, are always float32"
    )
    threads: Literal["auto"] | Annotated[int, Field(ge=1, le=256)] = Field(
        "auto", description="CPU threads of one site's work; equal bytes need equal numbers"
    )


class CalibrationConfig(_Section):
    max_ratio: float = Field(10.0, gt=1, description="bound on one site's magnitude against the others' median")


class StrategyConfig(_Section):
    name: StrategyName = Field("fedavg", description="Flower's strategy object that aggregates")
    proximal_mu: float = Field(0.01, gt=0, description="fedprox: weight of the squared distance to the round's start")
    server_learning_rate: float = Field(0.01, gt=0, description="fedadam: eta")
    trim: float = Field(0.2, ge=0, lt=0.5, description="fedtrimmedavg: share cut from either end")


class FederationConfig(_Section):
    quorum: Annotated[int, Field(ge=2)] | None = Field(
        None, description="sources that a step needs; null for all but one, and never fewer than two"
    )
    deadline: float = Field(3600.0, gt=0, le=86_400, description="seconds that hospitals have to answer one request")
    grace: float = Field(
        300.0, ge=0, le=86_400, description="seconds that the others still have once the quorum has answered"
    )
    max_update_norm: float = Field(
        1000.0, gt=0, description="L2 norm beyond which an update is refused; hospitals clip theirs far below it"
    )
    max_frames: int = Field(
        100_000, ge=1, description="training frames beyond which an update is refused: it would outweigh the others"
    )
    upload: Upload = Field(
        "float32", description="type in which updates travel to the coordinator; float16 halves them"
    )


class DataConfig(_Section):
    validation_share: float = Field(0.2, gt=0, lt=1, description="share of the subjects kept from training")
    max_bad_share: float = Field(0.0, ge=0, lt=1, description="share of unusable frames set aside before a run stops")


class PrivacyConfig(_Section):
    min_subjects: int = Field(50, ge=10, description="training subjects behind a statistic that a site gives")
    min_scored_frames: int = Field(20, ge=1, description="frames behind a list of scores that a site gives")


class MinimumConfig(_Section):
    frames: int = Field(20, ge=1, description="frames behind a number that a simulated hospital gives")
    subjects: int = Field(10, ge=1, description="subjects behind a number that a simulated hospital gives")


class ShiftConfig(_Section):
    k: int = Field(40, ge=1, le=10_000, description="neighbour whose distance is the k-NN score; see docs/SHIFT.md")


class PhantomConfig(_Section):
    hospitals: int = Field(3, ge=3, le=256, description="phantom hospitals when no data folder is given")
    subjects: int = Field(200, ge=5, le=100_000, description="subjects, and frames, of each phantom hospital")


class RunConfig(_Section):
    """Everything that decides a run's numbers."""

    seed: int = Field(0, ge=0, lt=2**31, description="of initial weights, order of frames, augmentation, phantoms")
    control: bool = Field(True, description="also continue phase 1 for as many rounds as phase 2 has")
    model: ModelConfig = ModelConfig()
    phase1: PhaseConfig = PhaseConfig(rounds=60, local_epochs=2)
    phase2: Phase2Config = Phase2Config(rounds=40, local_epochs=2)
    train: TrainConfig = TrainConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    strategy: StrategyConfig = StrategyConfig()
    federation: FederationConfig = FederationConfig()
    data: DataConfig = DataConfig()
    minimum: MinimumConfig = MinimumConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    shift: ShiftConfig = ShiftConfig()
    phantom: PhantomConfig = PhantomConfig()

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


class _Yaml(yaml.SafeLoader):
    """YAML 1.2's floats: in YAML 1.1, which PyYAML reads, `1e-3` is a string."""


_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
    list("-+0123456789."),
)


def read_settings(path: Path) -> dict[str, Any]:
    """Settings of a YAML file as a nested mapping, not yet checked against the schema.

    Raises:
        ConfigError: the file is missing, empty, not YAML or not a mapping.
    """
    try:
        settings = yaml.load(path.read_text(encoding="utf-8"), Loader=_Yaml)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}). Give the path of a YAML file.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text. Give the path of a YAML file.") from error
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f":{where.line + 1}" if where else ""
        raise ConfigError(f"{path}{line}: is not valid YAML ({getattr(error, 'problem', error)}).") from error
    if settings is None:
        raise ConfigError(f"{path}: is empty. Leave --config out for the defaults, or name at least one key.")
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: expected `key: value` lines, found {kind_of(settings)}.")
    return settings


def parse_override(text: str) -> dict[str, Any]:
    """`phase1.rounds=10` as `{"phase1": {"rounds": 10}}`."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text}: expected KEY=VALUE, for example --set phase1.rounds=10.")
    try:
        parsed: Any = yaml.load(value, Loader=_Yaml)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {text}: the value is not valid YAML.") from error
    for name in reversed(key.strip().split(".")):
        parsed = {name: parsed}
    assert isinstance(parsed, dict)
    return parsed


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings laid over each other, the last one on top."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            below = merged.get(key)
            merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def build_config(settings: Mapping[str, Any]) -> RunConfig:
    """Check nested settings against the schema.

    Raises:
        ConfigError: naming every unknown key, with the nearest known one, and every ill-typed or impossible value.
    """
    defaults = RunConfig().model_dump()
    try:
        return RunConfig.model_validate(merge(defaults, settings))
    except ValidationError as error:
        known = [key for key, _, _ in fields()]
        raise ConfigError("\n".join(explained(error, known, "docs/CONFIGURATION.md lists them."))) from None


def differences(given: Mapping[str, Any], existing: RunConfig) -> list[str]:
    """What the given settings would change in an existing run, a line a key; `auto` changes nothing."""
    stands = existing.model_dump(mode="json")
    wanted = dict(flatten(build_config(merge(stands, given)).model_dump(mode="json")))
    return [
        f"{key}: {value} in the run, {wanted[key]} now"
        for key, value in flatten(stands)
        if wanted[key] not in (value, "auto")
    ]


def flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of nested settings, in order."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and f"{prefix}{key}" not in _TABLES:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def fields() -> Iterator[tuple[str, Any, str]]:
    """Every dotted key with its default and its description, in order."""
    described = dict(descriptions(RunConfig))
    for key, default in flatten(RunConfig().model_dump(mode="json")):
        yield key, default, described[key]


def descriptions(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every dotted key of a schema with its description, in order."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from descriptions(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field.description or ""
