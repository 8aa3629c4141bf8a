"""What `auto` means on this machine, resolved once, when a run begins, and written into its configuration; and what a
process needs that trains on it."""

import ctypes
import sys
from functools import cache

import torch

from roiae.config import Precision, RunConfig
from roiae.errors import ConfigError

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's <malloc.h>
_LARGEST_MAP = 32 << 20  # bytes, the most that glibc takes from its heap; a map of MS-SSIM has 8 MB at batches of 16
_KEPT = 1 << 30  # bytes of freed memory that stay with the process, at most


def resolve(config: RunConfig) -> RunConfig:
    """The configuration with this machine's device, precision and threads in place of `auto`."""
    device = _best_device() if config.train.device == "auto" else config.train.device
    chosen = {"device": device, "precision": _precision(device), "threads": torch.get_num_threads()}
    auto = {name: value for name, value in chosen.items() if getattr(config.train, name) == "auto"}
    return config.model_copy(update={"train": config.train.model_copy(update=auto)})


def prepare_process(threads: int) -> None:
    """Give the process so many CPU threads, and let it keep the memory that a step frees for the next one."""
    torch.set_num_threads(threads)
    _keep_freed_memory()


def find_device(name: str) -> torch.device:
    """The device of a setting: `auto`, `cpu`, `cuda` or `mps`.

    Raises:
        ConfigError: this machine has none of that name.
    """
    device = _best_device() if name == "auto" else name
    if not is_available(device):
        raise ConfigError(
            f"device: {device}: this machine has none that torch can use. Set it to auto, or to cpu; a GPU of NVIDIA's "
            "needs its driver and a build of torch for CUDA."
        )
    return torch.device(device)


def _best_device() -> str:
    return next(device for device in ("cuda", "mps", "cpu") if is_available(device))


def is_available(device: str) -> bool:
    """Whether torch can use it here: `cpu`, `cuda` or `mps`."""
    if device == "cuda":
        return torch.cuda.is_available()
    return device == "cpu" or torch.backends.mps.is_available()


def _precision(device: str) -> Precision:
    """bfloat16 where the hardware has it: emulated, it is slower than float32."""
    if device == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = device == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if native else "float32"


@cache
def _keep_freed_memory() -> None:
    """glibc hands large maps back to the system, which clears them anew for the next step (docs/PERFORMANCE.md)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # musl has none
        mallopt(_MMAP_THRESHOLD, _LARGEST_MAP)
        mallopt(_TRIM_THRESHOLD, _KEPT)
