"""Flower's strategies behind our aggregator, against what their papers say and against Flower's own sums."""

import tracemalloc
from collections.abc import Iterable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

from roiae.config import StrategyConfig, StrategyName
from roiae.wire.contract import Arrays
from roiae_server.flower.aggregation import FlowerAggregator

START: Arrays = {"w": np.zeros(4, dtype=np.float32)}
Update = tuple[Arrays, float]


def updates(values: list[float], frames: list[int]) -> list[Update]:
    """An update a site: all weights of one value, and its number of frames."""
    return [({"w": np.full(4, value, dtype=np.float32)}, float(n)) for value, n in zip(values, frames, strict=True)]


def random_updates(sites: int, size: int) -> list[Update]:
    rng = np.random.default_rng(0)
    return [({"w": rng.normal(0, 0.1, size).astype(np.float32)}, float(rng.integers(50, 500))) for _ in range(sites)]


def aggregated(aggregator: FlowerAggregator, round_: int, start: Arrays, updates: Iterable[Update]) -> Arrays:
    aggregator.configure(round_, start)
    for arrays, weight in updates:
        aggregator.add(arrays, weight)
    return aggregator.aggregate(round_)


@pytest.mark.parametrize(
    ("name", "expected"), [("fedavg", 2.5), ("fedprox", 2.5), ("fedmedian", 3.0), ("fedtrimmedavg", 3.0)]
)
def test_strategies_aggregate_as_named(name: StrategyName, expected: float) -> None:
    some = updates([1.0, 2.0, 3.0, 4.0, 100.0], [10, 10, 10, 10, 0])

    result = aggregated(FlowerAggregator(StrategyConfig(name=name)), 1, START, some)

    np.testing.assert_allclose(result["w"], expected, rtol=1e-6)
    assert result["w"].dtype == np.float32


@pytest.mark.parametrize("name", ["fedavg", "fedadam", "fedmedian"])
def test_arrays_are_told_apart_by_name_whatever_their_order(name: StrategyName) -> None:
    start: Arrays = {"b": np.zeros((2, 1), np.float32), "a": np.zeros(3, np.float32)}
    ones, halves = np.full((2, 1), 1, np.float32), np.full(3, -0.5, np.float32)
    config = StrategyConfig(name=name, server_learning_rate=1.0)

    result = aggregated(
        FlowerAggregator(config), 1, start, [({"b": ones, "a": halves}, 1), ({"a": halves, "b": ones}, 1)]
    )

    assert (result["a"] < -0.1).all() and (result["b"] > 0.1).all()
    assert {name: array.shape for name, array in result.items()} == {"b": (2, 1), "a": (3,)}


def test_fedavg_weighs_by_frames() -> None:
    result = aggregated(FlowerAggregator(StrategyConfig()), 1, START, updates([0.0, 4.0], [300, 100]))

    np.testing.assert_allclose(result["w"], 1.0)


@pytest.mark.parametrize("sites", [3, 16])
def test_streamed_sums_equal_flowers_to_1e_7(sites: int) -> None:
    some = random_updates(sites, 9999)
    records = [
        RecordDict(
            {"arrays": ArrayRecord({"w": Array(arrays["w"])}), "metrics": MetricRecord({"num-examples": weight})}
        )
        for arrays, weight in some
    ]
    flowers = aggregate_arrayrecords(records, "num-examples")["w"].numpy()

    ours = aggregated(FlowerAggregator(StrategyConfig()), 1, START, some)["w"]

    np.testing.assert_allclose(ours, flowers, rtol=0, atol=1e-7)  # Flower sums in float32
    exact = np.average([a["w"].astype(np.float64) for a, _ in some], axis=0, weights=[w for _, w in some])
    np.testing.assert_allclose(ours, exact, rtol=1e-7)


def test_a_streamed_round_holds_no_more_for_more_sites() -> None:
    def peak(sites: int) -> int:
        aggregator = FlowerAggregator(StrategyConfig())
        tracemalloc.start()
        aggregated(aggregator, 1, START, ((random_updates(1, 50_000)[0]) for _ in range(sites)))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(40) < 1.2 * peak(4)


def test_a_round_that_was_given_up_leaves_nothing_behind() -> None:
    aggregator = FlowerAggregator(StrategyConfig())
    aggregator.configure(1, START)
    aggregator.add({"w": np.full(4, 100, dtype=np.float32)}, 10.0)

    result = aggregated(aggregator, 1, START, updates([1.0, 3.0], [1, 1]))

    np.testing.assert_allclose(result["w"], 2.0)


def test_only_fedprox_asks_for_a_proximal_term() -> None:
    assert FlowerAggregator(StrategyConfig(name="fedprox", proximal_mu=0.3)).configure(1, START) == 0.3
    assert FlowerAggregator(StrategyConfig()).configure(1, START) == 0.0


def test_fedadam_equals_its_paper_and_goes_on_from_a_restored_state() -> None:
    """Reddi et al. 2021, algorithm 2, with Flower's bias correction; two rounds by hand."""
    config = StrategyConfig(name="fedadam", server_learning_rate=0.1)
    first = FlowerAggregator(config)
    once = aggregated(first, 1, START, updates([1.0, 3.0], [1, 1]))
    second = FlowerAggregator(config)
    second.restore(first.state)
    twice = aggregated(second, 2, once, updates([1.0, 3.0], [1, 1]))

    weight, moment, variance = 0.0, 0.0, 0.0
    for round_, result in ((1, once), (2, twice)):
        delta = 2.0 - weight
        moment = 0.9 * moment + 0.1 * delta
        variance = 0.99 * variance + 0.01 * delta**2
        rate = 0.1 * np.sqrt(1 - 0.99 ** (round_ + 1)) / (1 - 0.9 ** (round_ + 1))
        weight += rate * moment / (np.sqrt(variance) + 1e-3)
        np.testing.assert_allclose(result["w"], weight, rtol=1e-5)
    assert twice["w"].dtype == np.float32
