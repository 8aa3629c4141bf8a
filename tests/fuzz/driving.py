"""Drives hostile messages through the paths of both sides, from the wire to the check of a signature and beyond."""

import json
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.proto.message_pb2 import ConfirmMessageReceivedResponse, Context, PullObjectResponse
from flwr.proto.runtime_pb2 import PullAppMessagesResponse, PullTaskInputResponse
from flwr.supercore.inflatable.inflatable_object import get_object_id
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError
from flwr.supercore.run import Run

from roiae.errors import Reason, RefusalError
from roiae.wire.contract import Arrays, Reply, Request, TrainTask
from roiae.wire.packing import pack
from roiae_client.answering.responder import Responder
from roiae_client.flower.inbox import pull_request
from roiae_client.flower.messages import answer
from roiae_server.flower.grid import act_as_coordinator
from roiae_server.flower.network import NetworkTransport, Patience
from roiae_server.flower.run_grid import RunGrid
from roiae_server.run.reply_checks import admit_update, admitted
from roiae_server.run.transport import Outcome
from tests.fuzz.values import config_value, number, text
from tests.fuzz.wire import Wire, odd_message, odd_wire, on_wire
from tests.server.flower.test_network import REPLY, World, honest, sealed
from tests.signing import SIGNER, signed

START = {"w": np.zeros(3, np.float32)}


@dataclass
class Figures:
    """What became of the messages, and what they cost."""

    reasons: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, 0)  # seconds of this process's work, and which
    before: int = field(default_factory=lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # KiB

    @property
    def mebibytes(self) -> float:
        """By which the peak of this process has grown."""
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self.before) / 1024

    def note(self, reason: str, began: float) -> None:
        self.slowest = max(self.slowest, (time.process_time() - began, self.reasons.total()))
        self.reasons[reason] += 1

    def __str__(self) -> str:
        counts = ", ".join(f"{reason} {count}" for reason, count in self.reasons.most_common())
        seconds, which = self.slowest
        return f"{counts}; slowest {seconds:.2f} s (message {which}), {self.mebibytes:.0f} MiB more at the peak"


class Link:
    """Stands in for the Runtime API on either side: announces messages, and hands out what objects there are."""

    def __init__(self) -> None:
        self.announced: list[Wire] = []
        self.objects: dict[str, bytes] = {}

    def announce(self, wire: Wire) -> None:
        self.announced.append(wire)
        for key, content in wire.objects.items():
            # Flower refuses what is not under its own hash: b's damage stays b's, where the two share an object.
            if key not in self.objects or get_object_id(content) == key:
                self.objects[key] = content

    def PullTaskInput(self, request: Any) -> PullTaskInputResponse:  # noqa: N802
        return PullTaskInputResponse(context=Context(run_id=1, node_id=1), task_id=1)

    def PullMessages(self, request: Any) -> PullAppMessagesResponse:  # noqa: N802
        announced, self.announced = self.announced, []
        return PullAppMessagesResponse(
            messages_list=[wire.proto for wire in announced], message_object_trees=[wire.tree for wire in announced]
        )

    def PullObject(self, request: Any) -> PullObjectResponse:  # noqa: N802
        content = self.objects.get(request.object_id)
        found = content is not None
        return PullObjectResponse(object_found=found, object_available=found, object_content=content or b"")

    def ConfirmMessageReceived(self, request: Any) -> ConfirmMessageReceivedResponse:  # noqa: N802
        return ConfirmMessageReceivedResponse()


class HostileGrid(RunGrid):
    """The run's own grid, over a link that a hospital has had its hands on.

    Args:
        world: answers honestly, for every site.
        hostile: what the replies of site b become.
    """

    _runtime_client = Link()  # type: ignore[assignment]

    def __init__(self, world: World, hostile: Callable[[Message], Iterable[Wire]]) -> None:
        super().__init__(Path("nowhere"), "token")
        self.set_run(Run.create_empty(1))
        self._world, self._hostile = world, hostile
        HostileGrid._runtime_client = Link()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = self._world.push_messages(messages)
        link: Any = self._runtime_client
        for asked in ids:
            if reply := self._world.waiting.pop(asked, None):
                by_b = reply.metadata.src_node_id == self._world.nodes_["b"].node_id
                for wire in self._hostile(reply) if by_b else [on_wire(reply)]:
                    link.announce(wire)
        return ids


def malformed(random: Random, message: Message) -> Wire:
    """Changed at least once: in what it holds, in how it lies on the wire, or both."""
    inside = random.random() < 0.6
    wire = on_wire(odd_message(random, message) if inside else message)
    for _ in range(random.choice((0, 0, 1)) if inside else random.choice((1, 1, 2))):
        wire = odd_wire(random, wire)
    return wire


def hostile_replies(random: Random) -> Callable[[Message], Iterable[Wire]]:
    def make(reply: Message) -> Iterable[Wire]:
        return [malformed(random, reply)] * random.choice((1, 1, 1, 2))

    return make


def signed_by_b(random: Random, changes: int) -> Callable[[Message], Message]:
    """What an enrolled hospital can sign: an honest reply but for so many of its numbers, and its arrays with them."""

    def reply(message: Message) -> Message:
        metrics = {"loss": 0.5, "ms_ssim": 0.5, "num-examples": 10.0, "frames_a_second": 1.0}
        sums = {"psnr": 20.0, "ms_ssim": 0.5, "roi_mae": 0.1, "roi_edge_mae": 0.2, "frames": 2.0}
        metrics |= {f"validation_{name}": total for name, total in sums.items()}
        if not changes:
            return sealed("b", message, Reply(metrics, {"w": START["w"] + np.float32(1)}, 1.0))
        for _ in range(changes):
            name = random.choice([*metrics, *metrics, text(random).encode(errors="replace").decode()])
            metrics[name] = float(number(random))
        with np.errstate(over="ignore", invalid="ignore"):
            shape, kind = random.choice(((3,), (3,), (0,), (2, 2))), random.choice(("f4", "f4", "f8", "f2"))
            array = np.full(shape, float(number(random))).astype(kind)
        return sealed("b", message, Reply(metrics, {random.choice(("w", "w", "")): array}, float(number(random))))

    return reply


def exchange(task: TrainTask, grid_of: Callable[[World], RunGrid], world: World) -> dict[str, Outcome]:
    transport = NetworkTransport(
        grid_of(world), world, SIGNER, Patience(3, 3, 2), ("a", "b"), lambda: world.now, world.sleep
    )
    request = Request(task, START)
    return {outcome.site: outcome for outcome in transport.exchange({"a": request, "b": request})}


def drive_coordinator(seed: int, count: int, task: TrainTask) -> Figures:
    """Exchanges in which b is hostile, each with a new message; a's honest reply comes through every time."""
    figures = Figures()
    for place in range(count):
        random, began = Random(f"{seed}/{place}"), time.process_time()
        by_b = random.random() < 0.2
        world = World({"a": honest("a"), "b": signed_by_b(random, random.choice((1, 1, 3)) if by_b else 0)})
        outcomes = exchange(
            task,
            lambda world, random=random, by_b=by_b: HostileGrid(  # type: ignore[misc]
                world, (lambda reply: [on_wire(reply)]) if by_b else hostile_replies(random)
            ),
            world,
        )
        assert outcomes["a"].reply is not None, f"seed {seed}, message {place}: b's message cost a its reply"
        figures.note(_judged(outcomes["b"], task), began)
    return figures


def _judged(outcome: Outcome, task: TrainTask) -> str:
    """The reason of the contract, or what admission makes of a reply that was signed."""
    if outcome.reply is None:
        return str(Reason(outcome.reason or ""))
    try:
        admitted(outcome.reply, lambda reply: admit_update(reply, task, START, 1000))
    except RefusalError as refusal:
        return f"signed, then {refusal.reason}"
    return "admitted"


def still_served(task: TrainTask) -> bool:
    world = World({"a": honest("a"), "b": honest("b")})
    outcomes = exchange(task, lambda world: HostileGrid(world, lambda reply: [on_wire(reply)]), world)
    return all(outcome.reply is not None and outcome.reply.metrics == REPLY.metrics for outcome in outcomes.values())


def request_message(request: Request) -> Message:
    """What a coordinator sends."""
    return signed_message(request.kind, request.task.model_dump_json(), request.arrays)


def signed_message(kind: str, task_json: str, arrays: Arrays) -> Message:
    """Under the federation's own signature, whatever it holds."""
    act_as_coordinator()
    request = signed(kind, task_json, arrays, site="a")
    content = {
        "arrays": ArrayRecord({"packed": Array(*pack(arrays, request.ask.nonce))}),
        "ask": ConfigRecord({**request.to_record(task_json)}),
    }
    return Message(RecordDict(content), dst_node_id=1, message_type=kind)  # type: ignore[arg-type]


def odd_but_signed(random: Random, request: Request) -> Message:
    """What a coordinator in wrong hands can sign: a task and arrays of any kind."""
    task = json.loads(request.task.model_dump_json())
    for _ in range(random.choice((0, 1, 2))):
        task[random.choice([*task, text(random)])] = random.choice((number, text, config_value))(random)
    arrays = dict(request.arrays)
    for _ in range(random.choice((0, 1, 2))):
        name = random.choice([*arrays, "w"])
        shape, kind = random.choice(((), (0,), (3,), (2, 2), (10_000,))), random.choice(("f4", "f8", "f2", "u1", "i8"))
        with np.errstate(over="ignore", invalid="ignore"):
            arrays[name] = np.full(shape, float(number(random))).astype(kind)
    return signed_message(request.kind, json.dumps(task, default=repr), arrays)


def taken(responder: Responder, wire: Wire) -> str:
    """What the hospital answers to what is on the wire: a reason of the contract, or `answered`."""
    link = Link()
    link.announce(wire)
    try:
        message, _ = pull_request(link)  # type: ignore[arg-type]
    except ObjectPullError:
        return "lost"  # no SuperNode hands on what it has not got whole, but for one that loses it meanwhile
    reply = answer(responder, message)
    if reply.has_error():
        return f"bare {Reason(reply.error.reason or '')}"
    said = str(reply.content.config_records["envelope"]["reason"])
    return str(Reason(said)) if said else "answered"


def drive_hospital(seed: int, count: int, responder: Responder, requests: list[Request]) -> Figures:
    figures = Figures()
    for place in range(count):
        random, began = Random(f"{seed}/{place}"), time.process_time()
        request = random.choice(requests)
        by_coordinator = random.random() < 0.2
        wire = (
            on_wire(odd_but_signed(random, request)) if by_coordinator else malformed(random, request_message(request))
        )
        try:
            figures.note(taken(responder, wire), began)
        except Exception as error:
            raise AssertionError(f"seed {seed}, message {place}: {type(error).__name__} came out") from error
    return figures
