"""Flower's strategy objects behind our `Aggregator`: their configure and aggregate calls, driven by our round loop.

A strategy that asks no more of the replies than their weighted mean is given that mean as one reply, and they are
folded into running sums as they come: memory for one update, however many sites. The others need every update at once.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAdam, FedAvg, FedMedian, FedProx, FedTrimmedAvg
from numpy.typing import NDArray

from roiae.config import StrategyConfig, StrategyName
from roiae.wire.contract import NUM_EXAMPLES, Arrays
from roiae_server.flower.grid import act_as_coordinator

MEAN_IS_ENOUGH: frozenset[StrategyName] = frozenset({"fedavg", "fedprox", "fedadam"})
FLAT = "flat"  # what a strategy sees: all weights as one array, since each of these works on every weight by itself
STATE = ("m_t", "v_t")  # FedAdam's moments, each {FLAT: array}


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
        self._new_fold = WeightedMean if config.name in MEAN_IS_ENOUGH else EveryReply
        self._fold = self._new_fold()

    def configure(self, round_: int, arrays: Arrays) -> float:
        self._fold = self._new_fold()
        messages = list(self._strategy.configure_train(round_, _record(arrays), ConfigRecord(), cast(Grid, _OneNode())))
        return cast(float, messages[0].content.config_records["config"].get("proximal-mu", 0.0))

    def add(self, arrays: Arrays, weight: float) -> None:
        self._fold.add(arrays, weight)

    def aggregate(self, round_: int) -> Arrays:
        """Types stay as the sites sent them."""
        updates = self._fold.updates()
        record, _ = self._strategy.aggregate_train(round_, [_message(*update) for update in updates])
        layout, _ = updates[0]
        self._fold = self._new_fold()
        assert record is not None, "a strategy answers None only to no replies"
        return _split(record[FLAT].numpy(), layout)

    @property
    def state(self) -> Arrays:
        moments = {name: getattr(self._strategy, name, None) or {} for name in STATE}
        return {f"{name}/{key}": array for name, arrays in moments.items() for key, array in arrays.items()}

    def restore(self, state: Arrays) -> None:
        for name in STATE:
            moment = {key.removeprefix(f"{name}/"): array for key, array in state.items() if key.startswith(f"{name}/")}
            if moment:
                setattr(self._strategy, name, moment)


class WeightedMean:
    """Σ w·x / Σ w of arrays by name, summed in float64 in the order that they are added."""

    def __init__(self) -> None:
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._types: dict[str, np.dtype[Any]] = {}
        self._weight = 0.0

    def add(self, arrays: Arrays, weight: float) -> None:
        for name, array in arrays.items():
            weighted = np.multiply(array, weight, dtype=np.float64)
            if name in self._sums:
                self._sums[name] += weighted
            else:
                self._sums[name], self._types[name] = weighted, array.dtype
        self._weight += weight

    def updates(self) -> list[tuple[Arrays, float]]:
        """The mean in the arrays' own types, and what stands behind it."""
        return [({n: (total / self._weight).astype(self._types[n]) for n, total in self._sums.items()}, self._weight)]


class EveryReply:
    """Keeps all updates until they are asked for."""

    def __init__(self) -> None:
        self._updates: list[tuple[Arrays, float]] = []

    def add(self, arrays: Arrays, weight: float) -> None:
        self._updates.append((arrays, weight))

    def updates(self) -> list[tuple[Arrays, float]]:
        return self._updates


class _OneNode:
    """All that a strategy asks of a grid before it writes its settings into a message."""

    def get_node_ids(self) -> list[int]:
        return [1]


def _message(arrays: Arrays, weight: float) -> Message:
    asked = Message(RecordDict(), dst_node_id=1, message_type="train")
    content = RecordDict({"arrays": _record(arrays), "metrics": MetricRecord({NUM_EXAMPLES: weight})})
    return Message(content, reply_to=asked)


def _record(arrays: Arrays) -> ArrayRecord:
    return ArrayRecord({FLAT: Array(np.concatenate([arrays[name].ravel() for name in sorted(arrays)]))})


def _split(flat: NDArray[Any], layout: Arrays) -> Arrays:
    """The arrays that a record was made of, by the names, shapes and types of others like them."""
    ends = np.cumsum([layout[name].size for name in sorted(layout)])
    parts = dict(zip(sorted(layout), np.split(flat, ends[:-1]), strict=True))
    return {name: parts[name].reshape(array.shape).astype(array.dtype, copy=False) for name, array in layout.items()}
