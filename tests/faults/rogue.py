"""A hospital that cheats: the real service with another responder in its executor.

python -m tests.faults.rogue TRICK DIR
"""

import sys
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec

from roiae.wire.contract import Arrays, Reply
from roiae.wire.envelope import seal
from roiae.wire.signed_request import SignedAsk
from roiae_client.answering.responder import Answer, Responder
from roiae_client.folder.hospital_folder import HospitalFolder

# What each does, and the reason by which the coordinator refuses it.
TRICKS = {
    "nan": "not-finite",
    "shapes": "arrays-mismatch",
    "norm": "update-too-large",
    "forged": "bad-signature",  # signs with its own key, in another site's name
    "unsigned": "bad-signature",
    "replayed": "bad-signature",  # a well-signed answer to another request
}


class Cheat:
    """Takes the place of a hospital's responder, which does its work first."""

    def __init__(self, trick: str, key: ec.EllipticCurvePrivateKey, responder: Responder) -> None:
        self._trick, self._key, self._desk = trick, key, responder

    def answer(self, kind: str, signed: SignedAsk, task_json: str, arrays: Arrays) -> Answer:
        envelope, signature, reply = self._desk.answer(kind, signed, task_json, arrays)
        if self._trick == "replayed":
            envelope = envelope.model_copy(update={"request": uuid.uuid4().hex})
            signature = seal(self._key, envelope, reply)
        elif self._trick == "unsigned":
            signature = b""
        elif self._trick == "forged":
            envelope = envelope.model_copy(update={"site": "alpha"})
            signature = seal(self._key, envelope, reply)
        elif reply is not None:
            reply = replace(reply, arrays=self._spoilt(reply))
            signature = seal(self._key, envelope, reply)
        return envelope, signature, reply

    def _spoilt(self, reply: Reply) -> Arrays:
        match self._trick:
            case "nan":
                return {name: np.full_like(array, np.nan) for name, array in reply.arrays.items()}
            case "shapes":
                return {name: array.reshape(-1) for name, array in reply.arrays.items()}
            case "norm":
                return {name: array + np.float32(1e6) for name, array in reply.arrays.items()}
        raise ValueError(f"no such trick: {self._trick}")


def serve(trick: str, folder: Path) -> None:
    """`roiae-client start`, but for the executor's command."""
    from roiae_client.service import processes as service

    services = service._services
    ours = (sys.executable, "-m", "tests.faults.rogue", trick)
    service._services = lambda *given: [
        replace(one, command=(*ours, *one.command[3:])) if one.name == "executor" else one for one in services(*given)
    ]
    service.start(HospitalFolder.open(folder))


def execute(trick: str, folder: Path, socket: str) -> None:
    """The executor, but for its responder."""
    from roiae_client.answering.from_folder import open_responder
    from roiae_client.flower import executor

    def open_cheat(opened: HospitalFolder) -> Cheat:
        return Cheat(trick, opened.private_key(), open_responder(opened))

    setattr(executor, "open_responder", open_cheat)  # noqa: B010
    executor.serve(HospitalFolder.open(folder), Path(socket))


if __name__ == "__main__":
    trick, path, *socket = sys.argv[1:]
    if socket:
        execute(trick, Path(path), *socket)
    else:
        serve(trick, Path(path))
