"""What `auto` means on this machine; resolved once, when a run begins, and written into its configuration."""

import torch

from roiae.config import RunConfig


def resolve(config: RunConfig) -> RunConfig:
    """The configuration with precision and threads of this machine in place of `auto`."""
    chosen = {
        "precision": "bfloat16" if torch.cpu._is_avx512_bf16_supported() else "float32",  # emulated, it is slower
        "threads": torch.get_num_threads(),
    }
    auto = {name: value for name, value in chosen.items() if getattr(config.train, name) == "auto"}
    return config.model_copy(update={"train": config.train.model_copy(update=auto)})
