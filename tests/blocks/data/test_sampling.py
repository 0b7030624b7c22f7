"""The laws of samples: the right number, none twice, the same again for the same seed."""

import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.blocks import registry
from agentflow.blocks.data.sampling import Method
from agentflow.blocks.trial import collect, trial_context

KEYS = {"stratify_key": "g", "cluster_key": "g", "weight_key": "w"}
ITEMS = [{"g": place % 3, "w": place, "n": place} for place in range(20)]


def draw(key: str = "k", **inputs: Any) -> tuple[list[Any], list[int]]:
    outputs = dict(collect(registry.by_name("DataSampling"), inputs, trial_context(idempotency_key=key)))
    return outputs["sampled_data"], outputs["sample_indices"]


@given(st.sampled_from(Method), st.integers(0, 20), st.integers(0, 10**9))
def test_a_sample_has_the_size_that_was_asked_for(method: Method, size: int, seed: int) -> None:
    data, places = draw(data=ITEMS, sample_size=size, sampling_method=method.value, random_seed=seed, **KEYS)
    assert data == [ITEMS[place] for place in places]
    assert len(places) == size
    assert method is Method.WEIGHTED or len(set(places)) == size


@pytest.mark.parametrize("method", Method)
def test_a_second_attempt_draws_the_same(method: Method) -> None:
    def places(key: str, seed: int | None = None) -> list[int]:
        return draw(key, data=ITEMS, sample_size=6, sampling_method=method.value, random_seed=seed, **KEYS)[1]

    assert places("run:node:1") == places("run:node:1")
    assert places("run:node:1", 7) == places("run:node:2", 7)
    if method not in (Method.TOP, Method.BOTTOM):
        assert len({tuple(places(f"run:node:{number}")) for number in range(20)}) > 1


@pytest.mark.parametrize("method", [Method.RANDOM, Method.RESERVOIR])
def test_each_item_is_as_likely_as_any_other(method: Method) -> None:
    drawn = Counter(
        place
        for seed in range(1000)
        for place in draw(data=list(range(5)), sample_size=2, sampling_method=method.value, random_seed=seed)[1]
    )
    assert set(drawn) == set(range(5))
    assert all(320 < times < 480 for times in drawn.values())  # 400 of each, give or take five standard deviations


def test_strata_are_drawn_from_in_proportion() -> None:
    items = [{"g": "many"}] * 80 + [{"g": "few"}] * 20
    data, _ = draw(data=items, sample_size=10, sampling_method="stratified", stratify_key="g")
    assert Counter(item["g"] for item in data) == {"many": 8, "few": 2}


def test_as_many_groups_as_items_take_no_square_of_the_time() -> None:
    items = [{"g": place} for place in range(100_000)]
    began = time.process_time()
    draw(data=items, sample_size=10, sampling_method="stratified", stratify_key="g")
    assert time.process_time() - began < 10  # seconds; the square of it takes a minute


def test_an_item_without_weight_is_never_drawn() -> None:
    items = [{"w": 0}, {"w": "1.5"}]
    _, places = draw(data=items, sample_size=2, sampling_method="weighted", weight_key="w")
    assert places == [1, 1]


def test_clusters_are_taken_whole() -> None:
    items = [{"g": place // 5} for place in range(20)]
    data, _ = draw(data=items, sample_size=10, sampling_method="cluster", cluster_key="g")
    assert sorted(Counter(item["g"] for item in data).values()) == [5, 5]
