"""Flower's strategies behind our aggregator, against what their papers say."""

import numpy as np
import pytest

from roiae.config import StrategyConfig, StrategyName
from roiae.contract import Arrays, Reply
from roiae_server.flower.aggregation import FlowerAggregator

START: Arrays = {"w": np.zeros(4, dtype=np.float32)}


def replies(values: list[float], frames: list[int]) -> dict[str, Reply]:
    return {
        f"site-{index}": Reply({"num-examples": float(n)}, {"w": np.full(4, value, dtype=np.float32)}, 1.0)
        for index, (value, n) in enumerate(zip(values, frames, strict=True))
    }


@pytest.mark.parametrize(
    ("name", "expected"), [("fedavg", 2.8), ("fedprox", 2.8), ("fedmedian", 3.0), ("fedtrimmedavg", 3.0)]
)
def test_strategies_aggregate_as_named(name: StrategyName, expected: float) -> None:
    aggregator = FlowerAggregator(StrategyConfig(name=name))
    aggregator.configure(1, START)

    result = aggregator.aggregate(1, replies([1.0, 2.0, 3.0, 4.0, 100.0], [10, 10, 10, 10, 0]))

    if name in ("fedavg", "fedprox"):
        expected = 2.5
    np.testing.assert_allclose(result["w"], expected, rtol=1e-6)
    assert result["w"].dtype == np.float32


def test_fedavg_weighs_by_frames() -> None:
    aggregator = FlowerAggregator(StrategyConfig())
    aggregator.configure(1, START)

    result = aggregator.aggregate(1, replies([0.0, 4.0], [300, 100]))

    np.testing.assert_allclose(result["w"], 1.0)


def test_the_order_of_replies_changes_no_byte() -> None:
    rng = np.random.default_rng(0)
    some = {
        name: Reply({"num-examples": n}, {"w": rng.normal(size=99).astype(np.float32)}, 1.0)
        for name, n in (("a", 3.0), ("b", 7.0), ("c", 11.0))
    }
    results = []
    for order in ("abc", "cab"):
        aggregator = FlowerAggregator(StrategyConfig())
        aggregator.configure(1, {"w": np.zeros(99, dtype=np.float32)})
        results.append(aggregator.aggregate(1, {name: some[name] for name in order})["w"].tobytes())

    assert results[0] == results[1]


def test_only_fedprox_asks_for_a_proximal_term() -> None:
    assert FlowerAggregator(StrategyConfig(name="fedprox", proximal_mu=0.3)).configure(1, START) == 0.3
    assert FlowerAggregator(StrategyConfig()).configure(1, START) == 0.0


def test_fedadam_equals_its_paper_and_goes_on_from_a_restored_state() -> None:
    """Reddi et al. 2021, algorithm 2, with Flower's bias correction; two rounds by hand."""
    config = StrategyConfig(name="fedadam", server_learning_rate=0.1)
    first = FlowerAggregator(config)
    first.configure(1, START)
    once = first.aggregate(1, replies([1.0, 3.0], [1, 1]))
    second = FlowerAggregator(config)
    second.restore(first.state)
    second.configure(2, once)
    twice = second.aggregate(2, replies([1.0, 3.0], [1, 1]))

    weight, moment, variance = 0.0, 0.0, 0.0
    for round_, result in ((1, once), (2, twice)):
        delta = 2.0 - weight
        moment = 0.9 * moment + 0.1 * delta
        variance = 0.99 * variance + 0.01 * delta**2
        rate = 0.1 * np.sqrt(1 - 0.99 ** (round_ + 1)) / (1 - 0.9 ** (round_ + 1))
        weight += rate * moment / (np.sqrt(variance) + 1e-3)
        np.testing.assert_allclose(result["w"], weight, rtol=1e-5)
    assert twice["w"].dtype == np.float32
