"""Two answers about the quality of chosen weights, put together to one frame's mean intensity."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from roiae.data.site_data import SiteData
from roiae.errors import Reason
from roiae.method.metrics import Quality
from roiae.method.model import Autoencoder
from roiae.method.training import arrays_of
from roiae.wire.contract import Arrays, Reply
from roiae_client.folder.site_config import Limits
from tests.attacks.crafted import MODEL
from tests.attacks.hospital import NO_RECIPE, SITES, Hospital, evaluation, without_history

pytestmark = [pytest.mark.real_frames, pytest.mark.timeout(3600)]

LEVELS = (0.25, 0.5)
Answer = Reply | Reason


def grey(level: float) -> Arrays:
    """Weights whose picture is this intensity everywhere, whatever the frame."""
    model = Autoencoder(**MODEL.model_dump())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.get_parameter("decoder.6.3.bias").fill_(math.log(level / (1 - level)))
    return arrays_of(model)


def mean_intensity(replies: list[Reply]) -> float:
    """Of one frame: the mean of (x − level)² is a line in the level, but for its square."""
    errors = [10 ** (-reply.metrics["psnr"] / 10) for reply in replies]
    low, high = LEVELS
    return ((errors[0] - errors[1]) - (low**2 - high**2)) / (2 * (high - low))


@pytest.mark.parametrize(
    "tries", [pytest.param(3, id="some", marks=pytest.mark.slow), pytest.param(20, id="all", marks=pytest.mark.attacks)]
)
def test_two_evaluations_tell_one_frames_mean_intensity_and_are_refused(
    tries: int,
    real_sites: dict[str, SiteData],
    hospital: Callable[..., Hospital],
    record: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    off, on = [], set()
    for place in range(tries):
        of = SITES[place % len(SITES)]
        whole = real_sites[of]
        data = replace(whole, validation=whole.validation[place : place + 1])
        truth = float(np.asarray(data.validation.frames).mean() / 255)
        with monkeypatch.context() as context:
            without_history(context)
            on |= {hospital(of, Limits(), data).ask(evaluation(), grey(level)) for level in LEVELS}
            context.setattr(Quality, "rounded", lambda self: self)
            asked = hospital(of, NO_RECIPE, data)
            replies = [asked.ask(evaluation(), grey(level)) for level in LEVELS]
        off.append(abs(mean_intensity([reply for reply in replies if isinstance(reply, Reply)]) - truth))

    record("oracle", off={"tries": tries, "error": float(np.median(off))}, refused=sorted(on))
    assert max(off) < 1e-5
    assert on == {Reason.NO_FRAMES}
