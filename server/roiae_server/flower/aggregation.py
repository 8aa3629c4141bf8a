"""Flower's strategy objects behind our `Aggregator`: their configure and aggregate calls, driven by our round loop."""

from collections.abc import Callable, Mapping
from typing import cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAdam, FedAvg, FedMedian, FedProx, FedTrimmedAvg

from roiae.config import StrategyConfig, StrategyName
from roiae.contract import NUM_EXAMPLES, Arrays, Reply
from roiae_server.flower.grid import act_as_coordinator

STATE = ("m_t", "v_t")  # FedAdam's moments, each {name of an array: array}


def make_strategy(config: StrategyConfig) -> FedAvg:
    """The configured strategy; which sites take part is decided before it is asked."""
    makers: dict[StrategyName, Callable[[], FedAvg]] = {
        "fedavg": FedAvg,
        "fedprox": lambda: FedProx(proximal_mu=config.proximal_mu),
        "fedadam": lambda: FedAdam(eta=config.server_learning_rate),
        "fedmedian": FedMedian,
        "fedtrimmedavg": lambda: FedTrimmedAvg(beta=config.trim),
    }
    strategy = makers[config.name]()
    strategy.min_train_nodes = strategy.min_available_nodes = 1  # it sees one node, see _OneNode
    return strategy


class FlowerAggregator:
    """One strategy object over one phase."""

    def __init__(self, config: StrategyConfig) -> None:
        act_as_coordinator()
        self._strategy = make_strategy(config)

    def configure(self, round_: int, arrays: Arrays) -> float:
        record = ArrayRecord({name: Array(array) for name, array in arrays.items()})
        messages = list(self._strategy.configure_train(round_, record, ConfigRecord(), cast(Grid, _OneNode())))
        return cast(float, messages[0].content.config_records["config"].get("proximal-mu", 0.0))

    def aggregate(self, round_: int, replies: Mapping[str, Reply]) -> Arrays:
        """Aggregate in the order of the sites' names, so that sums round alike; types stay as the sites sent them."""
        messages = [_message(replies[site]) for site in sorted(replies)]
        record, _ = self._strategy.aggregate_train(round_, messages)
        layout = replies[min(replies)].arrays
        assert record is not None, "a strategy answers None only to no replies"
        return {name: record[name].numpy().astype(array.dtype) for name, array in layout.items()}

    @property
    def state(self) -> Arrays:
        moments = {name: getattr(self._strategy, name, None) or {} for name in STATE}
        return {f"{name}/{key}": array for name, arrays in moments.items() for key, array in arrays.items()}

    def restore(self, state: Arrays) -> None:
        for name in STATE:
            moment = {key.removeprefix(f"{name}/"): array for key, array in state.items() if key.startswith(f"{name}/")}
            if moment:
                setattr(self._strategy, name, moment)


class _OneNode:
    """All that a strategy asks of a grid before it writes its settings into a message."""

    def get_node_ids(self) -> list[int]:
        return [1]


def _message(reply: Reply) -> Message:
    asked = Message(RecordDict(), dst_node_id=1, message_type="train")
    content = RecordDict(
        {
            "arrays": ArrayRecord({name: Array(np.ascontiguousarray(array)) for name, array in reply.arrays.items()}),
            "metrics": MetricRecord({NUM_EXAMPLES: reply.metrics[NUM_EXAMPLES]}),
        }
    )
    return Message(content, reply_to=asked)
