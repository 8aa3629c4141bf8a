"""What a site keeps on its own disk between two exchanges of a scoring: its key, and how far the probe has come.

On disk because the next request may reach another process of the site. A new key begins anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from safetensors.numpy import load

from roiae.errors import Reason, RefusalError
from roiae.files import write_atomically
from roiae.shift.group import packed
from roiae.shift.newton import ProbeFit, fit_from_arrays, fit_to_arrays
from roiae.wire.contract import Arrays, ShiftArm

_KEY, _FITS = "key", "fits"  # files


@dataclass(frozen=True)
class Session:
    """The one scoring that a site takes part in.

    Args:
        folder: the site's own; only its owner can read it.
        fingerprint: of the site's data; a key made over others is none.
    """

    folder: Path
    fingerprint: str

    def new_key(self) -> X25519PrivateKey:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        private = X25519PrivateKey.generate()
        (self.folder / _FITS).unlink(missing_ok=True)
        write_atomically(self.folder / _KEY, private.private_bytes_raw() + self.fingerprint.encode())
        return private

    def key(self) -> X25519PrivateKey:
        """
        Raises:
            RefusalError: `bad-request`: no key has been asked for since the data are these.
        """
        path = self.folder / _KEY
        kept = path.read_bytes() if path.exists() else b""
        if kept[32:] != self.fingerprint.encode() or not kept:
            raise RefusalError(Reason.BAD_REQUEST, "no key was asked for since this site's data are these")
        return X25519PrivateKey.from_private_bytes(kept[:32])

    def save_fits(self, step: int, about: str, fits: Mapping[ShiftArm, ProbeFit]) -> None:
        arrays: Arrays = {f"{about}.{step}": np.empty(0)}
        for arm, fit in fits.items():
            arrays |= {f"{arm}/{name}": array for name, array in fit_to_arrays(fit).items()}
        write_atomically(self.folder / _FITS, packed(arrays))

    def fits(self, step: int, about: str, sources: tuple[str, ...]) -> dict[ShiftArm, ProbeFit] | None:
        """As they were saved at this step; None where it was another."""
        path = self.folder / _FITS
        arrays = load(path.read_bytes()) if path.exists() else {}
        if arrays.pop(f"{about}.{step}", None) is None:
            return None
        by_arm: dict[ShiftArm, Arrays] = {}
        for name, array in arrays.items():
            arm, _, part = name.partition("/")
            by_arm.setdefault(arm, {})[part] = array  # type: ignore[arg-type]
        return {arm: fit_from_arrays(sources, of) for arm, of in by_arm.items()}
