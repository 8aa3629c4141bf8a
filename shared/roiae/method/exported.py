"""A model that `roiae-server export` handed on, as someone else takes it up."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as parse_weights

from roiae.config import ModelConfig
from roiae.errors import RefusalError, SetupError
from roiae.method.model import Autoencoder
from roiae.method.training import arrays_of, load_arrays
from roiae.wire.contract import check_arrays

WEIGHTS, SETTINGS = "model.safetensors", "settings.json"


class _Settings(BaseModel):
    """What of `settings.json` is needed here."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: ModelConfig
    run: str
    sha256: dict[str, str]


@dataclass(frozen=True)
class Exported:
    """The model, and where it comes from."""

    model: Autoencoder
    image_size: int  # px
    run: str  # the run's own number
    sha256: str  # of the weights


def load(path: str | Path) -> Autoencoder:
    """The trained model in a folder that `roiae-server export` wrote, ready to reconstruct.

    Args:
        path: the exported folder, or its `model.safetensors`.

    Raises:
        SetupError: it is no exported model, or its weights are not those that its settings name.
    """
    return read_exported(Path(path)).model.eval()


def read_exported(path: Path) -> Exported:
    """
    Args:
        path: the exported folder, or its `model.safetensors`.

    Raises:
        SetupError: it is no exported model, or its weights are not those that its settings name.
    """
    folder = path.parent if path.name == WEIGHTS else path
    expected = f"Give the folder that `roiae-server export` wrote, with {WEIGHTS} and {SETTINGS} in it."
    try:
        settings = _Settings.model_validate(json.loads((folder / SETTINGS).read_bytes()))
        content = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise SetupError(f"{path}: is no exported model ({error.filename}: {error.strerror}). {expected}") from error
    except (ValueError, ValidationError) as error:
        raise SetupError(f"{folder / SETTINGS}: is not what `roiae-server export` writes. {expected}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != settings.sha256.get(WEIGHTS):
        raise SetupError(f"{folder / WEIGHTS}: was altered or cut short since it was exported. Ask for it again.")
    model = Autoencoder(**settings.model.model_dump())
    try:
        arrays = parse_weights(content)
        check_arrays(arrays, arrays_of(model))
    except (SafetensorError, RefusalError) as error:
        raise SetupError(f"{folder / WEIGHTS}: does not fit {SETTINGS} beside it. {expected}") from error
    load_arrays(model, arrays)
    return Exported(model, settings.model.image_size, settings.run, digest)
