"""Draws a sample from a list, by one of several methods.

Without a given seed, the node execution's idempotency key is the seed, so a second attempt draws the same sample.
"""

import math
import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from enum import StrEnum
from typing import Any

from pydantic import Field

from agentflow.blocks.base import WORK_SECONDS, Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.engine.codec import dumps
from agentflow.errors import BadInput
from agentflow.graph.catalogue import Dependence
from agentflow.graph.json_values import number_in

Items = list[Any]


class Method(StrEnum):
    """The method by which items are chosen."""

    RANDOM = "random"  # all equally likely
    SYSTEMATIC = "systematic"  # every n-th, starting at a random one of the first n
    TOP = "top"  # the first ones
    BOTTOM = "bottom"  # the last ones
    STRATIFIED = "stratified"  # from each group, in proportion to its size
    WEIGHTED = "weighted"  # in proportion to the item's weight; an item may be drawn twice
    RESERVOIR = "reservoir"  # all equally likely, in one pass
    CLUSTER = "cluster"  # whole groups, until there are enough items


class DataSampling(Block):
    id = "4a448883-71fa-49cf-91cf-70d793bd7d87"
    name = "DataSampling"
    description = "Draws a sample from a list: at random, evenly, from an end, by weight or by group."
    categories = ("LOGIC",)
    depends_on = frozenset({Dependence.CHANCE})
    cacheable = True  # if it has a seed
    timeout = WORK_SECONDS

    class Input(BlockInput):
        data: list[Any] | dict[str, Any] = Field(description="The items; a dictionary counts as one item.")
        sample_size: int = Field(10, ge=0, description="How many to draw.")
        sampling_method: Method = Field(Method.RANDOM, description="How to choose them.")
        accumulate: bool = Field(False, description="Not offered: gather the items first, with the block Gather.")
        random_seed: int | None = Field(None, description="Makes the same draw each time.")
        stratify_key: str | None = Field(None, description="The key that tells an item's group, for `stratified`.")
        weight_key: str | None = Field(None, description="The key of an item's weight, for `weighted`.")
        cluster_key: str | None = Field(None, description="The key that tells an item's group, for `cluster`.")

    class Output(BlockOutput):
        sampled_data: list[Any] = Field(description="The items drawn.")
        sample_indices: list[int] = Field(description="Where each stood, from 0.")

    vectors = (
        TestVector(
            {"data": ["a", "b", "c"], "sample_size": 2, "sampling_method": "top"},
            [("sampled_data", ["a", "b"]), ("sample_indices", [0, 1])],
        ),
        TestVector(
            {"data": ["a", "b", "c"], "sample_size": 2, "sampling_method": "bottom"},
            [("sampled_data", ["b", "c"]), ("sample_indices", [1, 2])],
        ),
        TestVector({"data": {"a": 1}, "sample_size": 1}, [("sampled_data", [{"a": 1}]), ("sample_indices", [0])]),
        # Draws with only one possible result.
        TestVector(
            {"data": ["a"], "sample_size": 1, "random_seed": 7}, [("sampled_data", ["a"]), ("sample_indices", [0])]
        ),
        TestVector(
            {"data": ["a", "b"], "sample_size": 2, "sampling_method": "systematic"},
            [("sampled_data", ["a", "b"]), ("sample_indices", [0, 1])],
        ),
        TestVector(
            {"data": ["a", "b"], "sample_size": 2, "sampling_method": "reservoir"},
            [("sampled_data", ["a", "b"]), ("sample_indices", [0, 1])],
        ),
        TestVector(
            {"data": [{"g": 1}, {"g": 2}], "sample_size": 2, "sampling_method": "stratified", "stratify_key": "g"},
            [("sampled_data", [{"g": 1}, {"g": 2}]), ("sample_indices", [0, 1])],
        ),
        TestVector(
            {"data": [{"w": 0}, {"w": "2"}], "sample_size": 2, "sampling_method": "weighted", "weight_key": "w"},
            [("sampled_data", [{"w": "2"}, {"w": "2"}]), ("sample_indices", [1, 1])],
        ),
        TestVector(
            {"data": [{"g": 1}, {"g": 1}], "sample_size": 2, "sampling_method": "cluster", "cluster_key": "g"},
            [("sampled_data", [{"g": 1}, {"g": 1}]), ("sample_indices", [0, 1])],
        ),
        TestVector({"data": [], "sample_size": 0}, [("sampled_data", []), ("sample_indices", [])]),
        TestVector({"data": [1, 2]}, fails="a sample of 10 cannot be drawn from 2 items"),
        TestVector({"data": [1], "sample_size": 1, "sampling_method": "stratified"}, fails="needs a stratify_key"),
        TestVector(
            {"data": [{"g": 1}, {}], "sample_size": 1, "sampling_method": "cluster", "cluster_key": "g"},
            fails="item 1 has no 'g'",
        ),
        TestVector(
            {"data": [{"w": "x"}], "sample_size": 1, "sampling_method": "weighted", "weight_key": "w"},
            fails="the weight of item 0",
        ),
        TestVector(
            {"data": [{"w": 0}], "sample_size": 1, "sampling_method": "weighted", "weight_key": "w"},
            fails="no item has a weight",
        ),
        TestVector({"data": [1], "sample_size": 1, "accumulate": True}, fails="Gather"),
        TestVector({"data": [1], "sample_size": 1, "sampling_method": "by hand"}, fails="sampling_method"),
    )

    @classmethod
    def reusable(cls, inputs: Any, pins: Collection[str] = ()) -> bool:
        return inputs.random_seed is not None

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        if inputs.accumulate:
            raise BadInput("accumulate: this block keeps nothing; gather the items first, with the block Gather")
        items = inputs.data if isinstance(inputs.data, list) else [inputs.data]
        if inputs.sample_size > len(items):
            raise BadInput(f"a sample of {inputs.sample_size} cannot be drawn from {len(items)} items")
        seed = context.idempotency_key if inputs.random_seed is None else inputs.random_seed
        chance = random.Random(seed)  # noqa: S311 - samples, not secrets
        places = _METHODS[inputs.sampling_method](items, inputs, chance) if inputs.sample_size else []
        yield "sampled_data", [items[place] for place in places]
        yield "sample_indices", places


def _random(items: Items, inputs: DataSampling.Input, chance: random.Random) -> list[int]:
    return chance.sample(range(len(items)), inputs.sample_size)


def _systematic(items: Items, inputs: DataSampling.Input, chance: random.Random) -> list[int]:
    step = len(items) // inputs.sample_size
    return list(range(chance.randrange(step), len(items), step))[: inputs.sample_size]


def _top(items: Items, inputs: DataSampling.Input, chance: random.Random) -> list[int]:
    return list(range(inputs.sample_size))


def _bottom(items: Items, inputs: DataSampling.Input, chance: random.Random) -> list[int]:
    return list(range(len(items) - inputs.sample_size, len(items)))


def _stratified(items: Items, inputs: DataSampling.Input, chance: random.Random) -> list[int]:
    groups = _groups(items, inputs.stratify_key, "stratify_key")
    sizes = _shares([len(group) for group in groups], inputs.sample_size)
    return [place for group, size in zip(groups, sizes, strict=True) for place in chance.sample(group, size)]


def _shares(sizes: list[int], wanted: int) -> list[int]:
    """`wanted` in proportion to `sizes`. What rounding leaves over goes to the shares that it reduced most."""
    total = sum(sizes)
    exact = [size * wanted / total for size in sizes]
    shares = [math.floor(share) for share in exact]
    by_loss = sorted(range(len(sizes)), key=lambda at: shares[at] - exact[at])
    for at in by_loss[: wanted - sum(shares)]:
        shares[at] += 1
    return shares


def _weighted(items: Items, inputs: DataSampling.Input, chance: random.Random) -> list[int]:
    weights = [_weight(place, value) for place, value in enumerate(_values(items, inputs.weight_key, "weight_key"))]
    if not 0 < sum(weights) < math.inf:
        raise BadInput("no item has a weight above 0, or they are too large")
    return chance.choices(range(len(items)), weights=weights, k=inputs.sample_size)


def _weight(place: int, value: Any) -> float:
    number: Any = number_in(value) if isinstance(value, str) else value
    try:
        weight = float(number)
    except (TypeError, ValueError, OverflowError):
        weight = -1.0
    if not 0 <= weight < math.inf:
        raise BadInput(f"the weight of item {place} is not a number from 0 on")
    return weight


def _reservoir(items: Items, inputs: DataSampling.Input, chance: random.Random) -> list[int]:
    chosen = list(range(inputs.sample_size))
    for place in range(inputs.sample_size, len(items)):
        at = chance.randrange(place + 1)
        if at < inputs.sample_size:
            chosen[at] = place
    return chosen


def _cluster(items: Items, inputs: DataSampling.Input, chance: random.Random) -> list[int]:
    groups = _groups(items, inputs.cluster_key, "cluster_key")
    chance.shuffle(groups)
    chosen: list[int] = []
    for group in groups:
        if len(chosen) >= inputs.sample_size:
            break
        chosen += group
    return chosen if len(chosen) <= inputs.sample_size else chance.sample(chosen, inputs.sample_size)


def _groups(items: Items, key: str | None, pin: str) -> list[list[int]]:
    """The places of the items, grouped by their value under `key`."""
    groups: dict[str, list[int]] = defaultdict(list)
    for place, value in enumerate(_values(items, key, pin)):
        groups[dumps(value)].append(place)
    return list(groups.values())


def _values(items: Items, key: str | None, pin: str) -> Iterator[Any]:
    if not key:
        raise BadInput(f"this method needs a {pin}")
    for place, item in enumerate(items):
        if not isinstance(item, dict) or item.get(key) is None:
            raise BadInput(f"item {place} has no {key!r}")
        yield item[key]


_METHODS: dict[Method, Callable[[Items, DataSampling.Input, random.Random], list[int]]] = {
    Method.RANDOM: _random,
    Method.SYSTEMATIC: _systematic,
    Method.TOP: _top,
    Method.BOTTOM: _bottom,
    Method.STRATIFIED: _stratified,
    Method.WEIGHTED: _weighted,
    Method.RESERVOIR: _reservoir,
    Method.CLUSTER: _cluster,
}
