"""Real sites behind Flower's wire, in this process."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_msssim import ms_ssim

from roiae.config import Role, StrategyConfig, build_config, merge, parse_override
from roiae.data.site_data import FrameSet
from roiae.errors import Reason
from roiae.method.model import Autoencoder
from roiae.method.training import initial_arrays, load_arrays
from roiae.site.answers import NO_GUARD, Guard, Site
from roiae.wire.contract import NUM_EXAMPLES, Arrays, KeysTask, Reply, Request, TrainTask
from roiae.wire.upload import unpacked
from roiae_lab.simulated_federation import SimulatedFederation
from roiae_server.flower.aggregation import FlowerAggregator
from roiae_server.run.run_folder import RunFolder, RunState
from roiae_server.run.transport import Outcome, Transport
from tests.conftest import MODEL

# Settings that hospitals as shipped refuse, so that nothing here is bounded.
UNBOUNDED = ("train.optimizer=sgd", "minimum.frames=1", "minimum.subjects=1")
Exchange = Callable[[list[Site], Request], dict[str, Outcome]]


@pytest.fixture
def initial() -> Arrays:
    """Of the run that `train_task` is of: others do not begin one."""
    return initial_arrays(MODEL, 0)


@pytest.fixture
def exchange(tmp_path: Path) -> Exchange:
    """Asks sites as a simulation does that puts no limit on them."""

    def ask(sites: list[Site], request: Request) -> dict[str, Outcome]:
        outcomes: dict[str, Outcome] = {}
        config = build_config(
            merge(*map(parse_override, ("train.optimizer=sgd", "minimum.frames=1", "minimum.subjects=1")))
        )
        run = RunFolder.create(tmp_path / "run", config, RunState({site.name: site.role for site in sites}, {}, {}))

        def over(transport: Transport) -> None:
            outcomes.update({o.site: o for o in transport.exchange({site.name: request for site in sites})})

        with closing(run):
            SimulatedFederation(run).locally(sites, over)
        return outcomes

    return ask


def test_a_reply_crosses_the_wire_unchanged(
    exchange: Exchange, make_site: Callable[..., Site], initial: Arrays, train_task: TrainTask
) -> None:
    site, request = make_site("a"), Request(train_task, initial)

    outcome = exchange([site], request)["a"]

    direct = site.answer(request)
    assert outcome.reply is not None
    assert list(outcome.reply.arrays) == list(direct.arrays)
    assert all(outcome.reply.arrays[n].tobytes() == direct.arrays[n].tobytes() for n in direct.arrays)
    assert {k: v for k, v in outcome.reply.metrics.items() if k != "frames_a_second"} == {
        k: v for k, v in direct.metrics.items() if k != "frames_a_second"
    }
    size = sum(array.nbytes for array in initial.values())
    assert size < outcome.bytes_out < size * 1.1
    assert size < outcome.bytes_in < size * 1.1


def test_a_shift_query_crosses_the_wire_unchanged(exchange: Exchange, make_site: Callable[..., Site]) -> None:
    """Numbers without a dimension, float64 and bytes among its arrays."""

    class Desk(Site):
        def answer(self, request: Request, guard: Guard = NO_GUARD) -> Reply:
            return Reply({}, {"number": np.array(3.5), "bytes": np.arange(7, dtype=np.uint8), "none": np.empty(0)}, 0.0)

    site = make_site("a")
    responder = Desk(site.name, site.role, site.data, site.privacy, site.state)
    request = Request(KeysTask(model=MODEL, batch_size=16, threads=1), {})

    outcome = exchange([responder], request)["a"]

    assert outcome.reply is not None
    direct = responder.answer(request).arrays
    assert outcome.reply.arrays["number"].shape == ()
    assert {n: (a.dtype, a.tobytes()) for n, a in outcome.reply.arrays.items()} == {
        n: (a.dtype, a.tobytes()) for n, a in direct.items()
    }


def test_a_refusal_and_a_crash_leave_as_a_reason_and_nothing_else(
    exchange: Exchange,
    make_site: Callable[..., Site],
    initial: Arrays,
    train_task: TrainTask,
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = "patient-jane-doe.png"
    held_out, broken = make_site("held", role=Role.HELD_OUT), make_site("broken")

    class Broken(FrameSet):
        def batch(self, indices: object) -> tuple[torch.Tensor, torch.Tensor]:
            raise OSError(secret)

    object.__setattr__(broken.data, "validation", Broken(*vars(broken.data.validation).values()))
    outcomes = exchange([held_out, broken], Request(train_task, initial))

    assert (outcomes["held"].reply, outcomes["held"].reason) == (None, Reason.HELD_OUT)
    assert (outcomes["broken"].reply, outcomes["broken"].reason) == (None, Reason.SITE_FAILED)
    assert secret in caplog.text  # the hospital's own log has it


def test_magnitudes_cross_the_wire(
    exchange: Exchange, make_site: Callable[..., Site], initial: Arrays, train_task: TrainTask
) -> None:
    task = train_task.model_copy(update={"measure": True})

    reply = exchange([make_site("a")], Request(task, initial))["a"].reply

    assert reply is not None
    assert {name for name in reply.metrics if name.startswith("gradient_")} == {"gradient_ms_ssim"}


def test_one_federated_step_equals_one_pooled_step(
    exchange: Exchange, make_site: Callable[..., Site], initial: Arrays, train_task: TrainTask
) -> None:
    """FedAvg of one full-batch SGD step a site is one step on the pooled frames; the pooled step is plain PyTorch."""
    sites = [make_site("a", train=5), make_site("b", train=3)]
    aggregator = FlowerAggregator(StrategyConfig())
    aggregator.configure(1, initial)
    for outcome in exchange(sites, Request(train_task, initial)).values():
        assert outcome.reply
        aggregator.add(outcome.reply.arrays, outcome.reply.metrics[NUM_EXAMPLES])
    federated = aggregator.aggregate(1)

    model = Autoencoder(**MODEL.model_dump())
    load_arrays(model, initial)
    frames = torch.cat([site.data.train.batch(np.arange(len(site.data.train)))[0] for site in sites])
    optimizer = torch.optim.SGD(model.parameters(), lr=train_task.learning_rate)
    loss = 1 - ms_ssim(model(frames), frames, data_range=1.0, size_average=True)
    loss.backward()
    optimizer.step()

    for name, value in model.state_dict().items():
        np.testing.assert_allclose(federated[name], value.numpy(), atol=1e-6)


def test_a_half_precision_update_takes_half_the_bytes_and_arrives_nearly_the_same(
    exchange: Exchange, make_site: Callable[..., Site], initial: Arrays, train_task: TrainTask
) -> None:
    site, task = make_site("a"), train_task.model_copy(update={"upload": "float16"})

    outcome = exchange([site], Request(task, initial))["a"]

    assert outcome.reply is not None
    assert outcome.bytes_in < 0.55 * outcome.bytes_out
    trained = site.answer(Request(task, initial)).arrays
    for name, array in unpacked(outcome.reply.arrays, initial, "float16").items():
        np.testing.assert_allclose(array, trained[name], atol=1e-5)
