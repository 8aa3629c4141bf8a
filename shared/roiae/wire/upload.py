"""How a trained model travels to the coordinator: whole in float32, or as its difference to what was sent, in half.

Both sides have the weights that were sent, and the difference is small beside them: in float16 it keeps eleven bits of
its own size, where a weight would keep eleven bits of the weight's. The coordinator adds it up in float32.
"""

from dataclasses import replace

import numpy as np

from roiae.config import Upload
from roiae.wire.contract import Arrays, Reply, Request, TrainTask


def packed(trained: Arrays, sent: Arrays, upload: Upload) -> Arrays:
    """What travels of the trained weights; a difference beyond float16's range becomes infinite, and is refused."""
    if upload == "float32":
        return trained
    with np.errstate(over="ignore"):
        return {name: (array - sent[name]).astype(np.float16) for name, array in trained.items()}


def packed_reply(request: Request, reply: Reply) -> Reply:
    """The reply as it leaves the site."""
    if not isinstance(request.task, TrainTask):
        return reply
    return replace(reply, arrays=packed(reply.arrays, request.arrays, request.task.upload))


def unpacked(arrays: Arrays, sent: Arrays, upload: Upload) -> Arrays:
    """The trained weights, float32, of what travelled."""
    if upload == "float32":
        return arrays
    return {name: sent[name] + array.astype(np.float32) for name, array in arrays.items()}
