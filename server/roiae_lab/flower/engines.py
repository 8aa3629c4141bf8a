"""Where simulated hospitals run: in this process, or in Ray workers through Flower's own engine."""

import importlib.util
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from roiae.errors import EngineError
from roiae_client.answering.responder import Responder
from roiae_lab.flower.client_app import PARTITION, WHICH, client_app
from roiae_server.flower.grid import LocalGrid, MessageGrid

START_SECONDS = 60.0  # for Ray's nodes to register

Over = Callable[[MessageGrid, Mapping[str, int]], None]  # is given a grid, and each site's node


def run_local(responders: Mapping[str, Responder], over: Over) -> None:
    """Run with every site in this process."""
    nodes = {site: place + 1 for place, site in enumerate(responders)}
    in_place = list(responders.values())
    app = client_app(lambda place: nullcontext(in_place[place]))
    over(LocalGrid(app, {node: {PARTITION: node - 1} for node in nodes.values()}), nodes)


def require_ray() -> None:
    """
    Raises:
        EngineError: Ray is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise EngineError("--engine ray: Ray is not installed. Install it with `pip install roiae[ray]`.")


def run_on_ray(app: ClientApp, sites: Sequence[str], threads: int, over: Over) -> None:
    """Run with the sites in Ray workers of `threads` CPUs each, as many at once as the machine has CPUs for.

    Args:
        app: answers for the sites, each by its place among them.

    Raises:
        EngineError: Ray's nodes do not start.
    """
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")
    from flwr.simulation import run_simulation

    errors: list[Exception] = []
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        try:
            over(grid, _nodes_by_site(grid, sites))
        except Exception as error:  # raised again below: Flower would end the process with a traceback
            errors.append(error)

    backend = {
        "init_args": {
            "num_cpus": max(threads, os.cpu_count() or 1),
            "_node_ip_address": "127.0.0.1",  # else Ray talks to itself over the host's network address
            "include_dashboard": False,
            "log_to_driver": False,
        },
        "client_resources": {"num_cpus": threads, "num_gpus": 0.0},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray's and Flower's own; the science runs in the workers
        run_simulation(server, app, num_supernodes=len(sites), backend_name="ray", backend_config=backend)  # type: ignore[arg-type]
    if errors:
        raise errors[0]


def _nodes_by_site(grid: Grid, sites: Sequence[str]) -> dict[str, int]:
    """Ask each node which of the sites it is: the engine numbers them as it likes."""
    deadline = time.monotonic() + START_SECONDS
    while len(nodes := list(grid.get_node_ids())) < len(sites):
        if time.monotonic() > deadline:
            raise EngineError(f"--engine ray: {len(nodes)} of {len(sites)} nodes after {START_SECONDS:.0f} s.")
        time.sleep(0.1)
    ask = [Message(RecordDict(), dst_node_id=node, message_type=f"query.{WHICH}") for node in nodes]
    by_site = {}
    for reply in grid.send_and_receive(ask):
        if reply.has_error():
            raise EngineError("--engine ray: a worker failed to start; its own log has the reason.")
        by_site[sites[int(str(reply.content.config_records["config"]["place"]))]] = reply.metadata.src_node_id
    return by_site
