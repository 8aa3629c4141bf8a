"""The researcher's rooms: a whole federation in one process, and the paper's experiment."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roiae_lab.api import Run, simulate

__all__ = ["Run", "simulate"]


def __getattr__(name: str) -> Any:
    """Loaded when first used: the command's help needs no training library."""
    if name not in __all__:
        raise AttributeError(f"module 'roiae_lab' has no attribute {name!r}")
    from roiae_lab import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return __all__
