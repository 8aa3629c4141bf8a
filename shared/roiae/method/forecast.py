"""How much disk and memory a configuration will take, from figures measured once."""

import torch

from roiae.config import ModelConfig
from roiae.method.model import Autoencoder
from roiae.wire.contract import Task, TrainTask

# Measured on a CPU, torch 2.13, float32, the three terms of phase 2, widths of 8 to 64, batches of 4, 8 and 16 frames
# of 256 px and of 4 frames of 512 px. The peak of `train_round` less the process before it is 4 copies of the weights
# (weights, gradients and AdamW's two moments), what is kept of each pixel, and 102 MiB of what else torch loads, to
# within 3 % of the whole process.
_TORCH_LOADED = 274 * 2**20  # bytes of a process that has imported torch and what trains with it
_TORCH_WORKS = 102 * 2**20
_COPIES = 4
_PER_PIXEL, _PER_PIXEL_AND_CHANNEL = 122, 7.1  # bytes of activations a pixel of the batch; more with the model's width

# The weights as they came and as they leave, packed and not, and their difference in float64 while it is clipped. At
# widths of 128 and 256 this is also more than the 5 % by which the peak of a step alone was above the formula.
_AT_THE_DESK = 8

# Flower 1.41, the notes of its bring-up: a SuperNode takes 133 MB and nine copies of what it carries; SuperLink,
# executor and gateway 335 MB and up to fifteen copies of each site's update.
_SUPERNODE, _SUPERNODE_COPIES = 133e6, 9
_COORDINATOR, _COORDINATOR_COPIES = 335e6, 15


def weights_bytes(model: ModelConfig) -> int:
    """Bytes of the model's weights in float32, which is also what one update weighs."""
    with torch.device("meta"):
        network = Autoencoder(**model.model_dump())
    return 4 * sum(parameter.numel() for parameter in network.parameters())


def training_memory(model: ModelConfig, batch_size: float) -> float:
    """Bytes at the peak of local training, a hospital's whole process."""
    activations = batch_size * model.image_size**2 * (_PER_PIXEL + _PER_PIXEL_AND_CHANNEL * model.width)
    return _TORCH_LOADED + _TORCH_WORKS + _COPIES * weights_bytes(model) + activations


def request_memory(task: Task) -> float:
    """Bytes at the peak of a hospital's process that answers a request, rather too many than too few.

    An evaluation keeps no activations for a way back; half of what training keeps is more than it was seen to take.
    """
    model, batch_size = task.model, task.batch_size
    if isinstance(task, TrainTask):
        return training_memory(model, batch_size) + _AT_THE_DESK * weights_bytes(model)
    batch = batch_size / 2
    return training_memory(model, batch) + _AT_THE_DESK * weights_bytes(model)


def hospital_memory(model: ModelConfig, batch_size: int) -> float:
    """Bytes of a hospital's training process and its SuperNode together."""
    return training_memory(model, batch_size) + _SUPERNODE + _SUPERNODE_COPIES * weights_bytes(model)


def coordinator_memory(model: ModelConfig, sites: int) -> float:
    """Bytes of the SuperLink, the executor and the gateway together, with this many sites answering at once."""
    return _TORCH_LOADED + _COORDINATOR + _COORDINATOR_COPIES * sites * weights_bytes(model)


def cache_bytes(model: ModelConfig, frames: int) -> float:
    """Bytes of a hospital's cache of decoded frames: one a pixel."""
    return float(frames * model.image_size**2)


def coordinator_disk(model: ModelConfig, sites: int) -> float:
    """Bytes of Flower's database, which held one update a site and the model, and of a run's four model files."""
    update = weights_bytes(model)
    return (sites + 1) * update + 4 * 3 * update  # FedAdam's two moments lie beside the weights in a checkpoint
