"""Settings of graphs and nodes."""

from typing import Any

import pytest
from pydantic import ValidationError

from agentflow.graph.settings import GraphSettings, NodeSettings, effective, unknown_settings


def holds(graph: dict[str, Any], node: dict[str, Any]) -> NodeSettings:
    return effective(GraphSettings.model_validate(graph), NodeSettings.model_validate(node))


def test_nothing_is_retried_unless_asked_for() -> None:
    retry = NodeSettings().retry
    assert (retry.max_failures, retry.backoff, retry.base, retry.cap) == (0, "exponential", 1, 300)
    assert retry.jitter
    assert retry.on == ("transient",)


def test_the_defaults() -> None:
    settings = holds({}, {})
    assert (settings.on_worker_lost, settings.on_node_failure, settings.ordering) == ("rerun", "continue", "ordered")
    assert (settings.timeout, settings.max_losses, settings.queue, settings.cache) == (None, None, None, None)


@pytest.mark.parametrize(
    ("graph", "node", "key", "value"),
    [
        ({"timeout": 60}, {}, "timeout", 60),
        ({"timeout": 60}, {"timeout": 5}, "timeout", 5),
        ({}, {"timeout": 5}, "timeout", 5),
        ({"timeout": 60}, {"timeout": None}, "timeout", None),
        ({"cache": {"ttl": 1}}, {"cache": None}, "cache", None),
        ({"on_node_failure": "stop"}, {"on_node_failure": "ignore"}, "on_node_failure", "ignore"),
        ({"ordering": "arrival"}, {}, "ordering", "arrival"),
        ({"queue": "io"}, {}, "queue", "io"),
        ({"priority": 9}, {}, "priority", None),  # the run's own priority stands between the two
        ({"priority": 9}, {"priority": 1}, "priority", 1),
    ],
)
def test_a_node_overrides_its_graph(graph: dict[str, Any], node: dict[str, Any], key: str, value: Any) -> None:
    assert getattr(holds(graph, node), key) == value


def test_a_retry_policy_is_overridden_key_by_key() -> None:
    retry = holds({"retry": {"max_failures": 3, "base": 2}}, {"retry": {"base": 9, "on": ["block"]}}).retry
    assert (retry.max_failures, retry.base, retry.on) == (3, 9, ("block",))


def test_what_was_not_set_does_not_override_after_a_round_trip() -> None:
    node = NodeSettings.model_validate({"retry": {"base": 9}})
    again = NodeSettings.model_validate_json(node.model_dump_json())
    assert node.model_dump(mode="json") == {"retry": {"base": 9}}
    assert effective(GraphSettings(timeout=5), again).timeout == 5


def test_effective_settings_survive_a_round_trip() -> None:
    settings = holds({"timeout": 5, "retry": {"max_failures": 3}}, {"cache": {"ttl": 7}, "retry": {"base": 2}})
    assert NodeSettings.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize(
    "settings",
    [
        {"retry": {"max_failures": -1}},
        {"retry": {"base": float("inf")}},
        {"retry": {"backoff": "linear"}},
        {"retry": {"on": ["luck"]}},
        {"on_worker_lost": "cry"},
        {"max_losses": -1},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"timeout": 1e12},
        {"on_node_failure": "explode"},
        {"ordering": "random"},
        {"cache": {}},
        {"cache": {"ttl": 0}},
        {"queue": ""},
        {"queue": "a b"},
        {"queue": "x" * 64},
        {"priority": 10},
        {"priority": -1},
        {"rate_limit": {"key": "k", "per_second": 0}},
        {"rate_limit": {"per_second": 1}},
        {"concurrency": {"key": "", "limit": 1}},
        {"concurrency": {"key": "k", "limit": 0}},
        {"deadline": 0},
        {"max_node_executions": 0},
        {"budget": -1},
    ],
)
def test_values_out_of_bounds_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GraphSettings.model_validate(settings)


def test_unknown_keys_are_kept_and_told() -> None:
    settings = NodeSettings.model_validate({"retrys": 1, "retry": {"max_failure": 2}, "cache": {"ttl": 1, "tll": 2}})
    assert sorted(unknown_settings(settings)) == ["cache.tll", "retry.max_failure", "retrys"]
    assert settings.model_dump(mode="json")["retrys"] == 1


NUMBERS = ["timeout", "max_losses", "priority", "retry", "concurrency", "rate_limit", "cache"]
OF_GRAPHS = ["deadline", "budget", "max_node_executions"]


@pytest.mark.parametrize("odd", [True, False, "5", " 5 ", "", [5]])
@pytest.mark.parametrize("key", NUMBERS + OF_GRAPHS)
def test_nothing_but_a_number_is_a_number(key: str, odd: Any) -> None:
    nested: dict[str, dict[str, Any]] = {
        "retry": {"max_failures": odd},
        "concurrency": {"key": "k", "limit": odd},
        "rate_limit": {"key": "k", "per_second": odd},
        "cache": {"ttl": odd},
    }
    kind = GraphSettings if key in OF_GRAPHS else NodeSettings
    with pytest.raises(ValidationError):
        kind.model_validate({key: nested.get(key, odd)})


@pytest.mark.parametrize("key", ["max_losses", "priority", "timeout"])
def test_a_whole_number_may_have_a_point(key: str) -> None:
    assert NodeSettings.model_validate({key: 5.0}).model_dump()[key] == 5


def test_no_graph_names_the_queue_of_notifications() -> None:
    for kind in (GraphSettings, NodeSettings):
        with pytest.raises(ValidationError, match="delivers notifications"):
            kind.model_validate({"queue": "notifications"})
