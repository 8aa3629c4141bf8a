"""From a frozen encoder and a site's frames to latents, which stay in this process's memory."""

import hashlib
import json

import numpy as np
import torch
from numpy.typing import NDArray

from roiae.config import ModelConfig
from roiae.data.site_data import FrameSet
from roiae.method.model import Autoencoder
from roiae.method.training import arrays_of, load_arrays, ordered_batches
from roiae.wire.contract import Arrays, check_arrays

_ENCODER = "encoder."  # before the names of its arrays in the model's state


def encoder_arrays(arrays: Arrays) -> Arrays:
    """The encoder's part of a model's arrays."""
    return {name: array for name, array in arrays.items() if name.startswith(_ENCODER)}


def load_encoder(config: ModelConfig, arrays: Arrays) -> Autoencoder:
    """A model whose encoder has these arrays; its decoder is not to be used.

    Raises:
        RefusalError: `arrays-mismatch` or `not-finite`.
    """
    model = Autoencoder(**config.model_dump())
    start = arrays_of(model)
    check_arrays(arrays, encoder_arrays(start))
    load_arrays(model, start | arrays)
    return model.eval()


@torch.no_grad()
def encode(model: Autoencoder, data: FrameSet, batch_size: int) -> NDArray[np.float32]:
    """Latents [N, D] of all frames, in the order of the frames, float32."""
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batches = ordered_batches(data, batch_size)
    parts = [model.encode(frames.contiguous(memory_format=torch.channels_last)).numpy() for frames, _ in batches]
    return np.concatenate(parts)


def digest(arrays: Arrays, *settings: object) -> str:
    """SHA-256 of named arrays, and of settings that JSON can write."""
    hashed = hashlib.sha256(json.dumps(settings).encode())
    for name, array in sorted(arrays.items()):
        hashed.update(f"/{name}/{array.dtype}/{array.shape}/".encode())
        hashed.update(np.ascontiguousarray(array).data)
    return hashed.hexdigest()
