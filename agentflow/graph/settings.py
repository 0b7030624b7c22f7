"""Defines every setting that an author may give a graph or a node, with its unit and bounds.

A node's settings override the graph's, key by key; `effective` computes the result. A key that is set to null counts
as set (`"cache": null` on a node switches off the graph's cache). An effective value of None means the installation's
default, which this module must not read.
"""

from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from agentflow.errors import FailureKind
from agentflow.graph.json_values import of_whole_characters, only_a_number
from agentflow.graph.names import Lane, Name

_DAY = 86_400.0
_YEAR = 366 * _DAY

Seconds = Annotated[float, Field(gt=0, le=_YEAR, allow_inf_nan=False)]
"""A span of time, above 0 and at most a year."""

Key = Name
"""The name of a limit that all workers share."""

Priority = Annotated[int, Field(ge=0, le=9)]
"""0 to 9; 9 is the most urgent."""


_NUMBERS: Final = frozenset({int, float, NoneType})


def _leaves(annotation: Any) -> frozenset[Any]:
    """The types of which an annotation is the union."""
    if get_origin(annotation) is Annotated:
        return _leaves(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return frozenset().union(*map(_leaves, get_args(annotation)))
    return frozenset({annotation})


class _Settings(BaseModel):
    """Distinguishes keys that were set from those that were not, in memory and in JSON: only set keys override."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _of_whole_characters(cls, given: Any) -> Any:
        """Settings are shown, logged and stored as text, unknown keys included."""
        return of_whole_characters(given) if isinstance(given, dict) else given

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_for_numbers(cls, given: Any, info: ValidationInfo) -> Any:
        is_number = info.field_name is not None and _leaves(cls.model_fields[info.field_name].annotation) <= _NUMBERS
        return only_a_number(given) if is_number else given

    @model_serializer(mode="wrap")
    def _only_what_was_set(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        return {key: value for key, value in content.items() if key in self.model_fields_set}


class RetryPolicy(_Settings):
    """When a failed attempt is tried again, and after how long."""

    max_failures: int = Field(0, ge=0, le=1000, description="Failed attempts that are tried again.")
    backoff: Literal["exponential", "fixed"] = Field("exponential", description="How the wait grows.")
    base: float = Field(1.0, ge=0, le=_DAY, allow_inf_nan=False, description="The first wait, in seconds.")
    cap: float = Field(300.0, ge=0, le=30 * _DAY, allow_inf_nan=False, description="The longest wait, in seconds.")
    jitter: bool = Field(True, description="Spread the waits, so that failures do not come back in step.")
    on: tuple[FailureKind, ...] = Field(("transient",), description="The kinds of failure that are retried.")


class CacheSettings(_Settings):
    """Reuses stored outputs of the same block with the same inputs: the block does not run, and nothing is charged."""

    ttl: Seconds = Field(description="Seconds for which stored outputs are valid.")
    key: tuple[str, ...] | None = Field(None, description="The pins that must be equal; None: all of them.")


class RateLimit(_Settings):
    """Limits the starts per second over all workers."""

    key: Key
    per_second: float = Field(
        ge=1 / _YEAR, le=1_000_000, allow_inf_nan=False, description="Starts per second; at least one per year."
    )


class Concurrency(_Settings):
    """Limits how many run at the same time over all workers. Waiting nodes hold no slot, except sub-graph nodes while
    their child runs go on."""

    key: Key
    limit: int = Field(ge=1, le=1_000_000)


class RunsAtOnce(_Settings):
    """Limits how many runs of the graph are open at the same time, of all or of those with the same value of an input.
    Child runs do not count."""

    key: str | None = Field(None, description="The name of an input: each value of it has a limit of its own.")
    limit: int = Field(ge=1, le=1_000_000, description="Open runs at the same time.")
    when_full: Literal["queue", "skip", "cancel_oldest"] = Field(
        "queue", description="A further run waits, or is refused, or the oldest is cancelled and it waits for that."
    )


class _PerNode(_Settings):
    """The settings that a graph sets for all its nodes, and a node for itself."""

    retry: RetryPolicy = Field(default_factory=RetryPolicy)
    on_worker_lost: Literal["rerun", "fail"] = Field("rerun", description="After a worker was lost during an attempt.")
    max_losses: int | None = Field(None, ge=0, le=1000, description="Lost leases that are borne; one more: FAILED.")
    timeout: Seconds | None = Field(None, description="Seconds an attempt may run; None: the block's own.")
    on_node_failure: Literal["continue", "stop", "ignore"] = Field(
        "continue", description="After a failure that no link handles: go on, cancel the rest, or not count it."
    )
    ordering: Literal["ordered", "arrival"] = Field(
        "ordered", description="Deliver execution k before k + 1, or in order of arrival."
    )
    cache: CacheSettings | None = None
    queue: Lane | None = Field(None, description="The lane of workers that runs it; None: the block's own.")
    priority: Priority | None = Field(None, description="None: the run's.")
    rate_limit: RateLimit | None = None
    concurrency: Concurrency | None = None


class NodeSettings(_PerNode):
    """The settings of one node."""

    compensate_with: str | None = Field(None, description="Id of the node that undoes this one in a failed run.")


class GraphSettings(_PerNode):
    """The settings of a graph: defaults for its nodes, and settings for a whole run and its child runs."""

    deadline: Seconds | None = Field(None, description="Seconds after submission within which a run must end.")
    max_node_executions: int | None = Field(None, ge=1, le=1_000_000_000, description="A run with more: FAILED.")
    budget: int | None = Field(None, ge=0, le=2**62, description="Credits that a run may cost; beyond, it ends FAILED.")
    runs: RunsAtOnce | None = Field(None, description="How many runs of the graph are open at the same time.")
    queue_timeout: Seconds | None = Field(None, description="A run that has not begun after so many seconds: FAILED.")
    safe_mode: bool = Field(True, description="Whether steps that need a person's approval wait for it.")


_INHERITED = frozenset(_PerNode.model_fields) - {"priority"}
"""What a node inherits from its graph. Not the priority, because the run's own stands between the two."""


def effective(graph: GraphSettings, node: NodeSettings) -> NodeSettings:
    """The effective settings of a node: its own where it sets them, else the graph's, else the defaults.

    A retry policy is overridden key by key, every other setting as a whole. `priority` stays None unless the node
    sets it; the run's priority (by default `graph.priority`) then applies.
    """
    inherited = {key: getattr(graph, key) for key in _INHERITED & graph.model_fields_set}
    if not inherited:
        return node
    own = {key: getattr(node, key) for key in node.model_fields_set}
    if "retry" in inherited and "retry" in own:
        keys = {key: getattr(node.retry, key) for key in node.retry.model_fields_set}
        own["retry"] = graph.retry.model_copy(update=keys)
    return NodeSettings.model_construct(_fields_set=None, **{**inherited, **own})


_NESTED: Final[dict[str, type[_Settings]]] = {
    "retry": RetryPolicy,
    "cache": CacheSettings,
    "rate_limit": RateLimit,
    "concurrency": Concurrency,
    "runs": RunsAtOnce,
}
"""The settings that have keys of their own."""


def known_settings(kind: type[GraphSettings | NodeSettings]) -> list[str]:
    """The known keys; dotted where nested."""
    nested = [name for name in _NESTED if name in kind.model_fields]
    return [*kind.model_fields, *(f"{name}.{key}" for name in nested for key in _NESTED[name].model_fields)]


def unknown_settings(settings: GraphSettings | NodeSettings) -> list[str]:
    """The unknown keys, which are kept but most likely misspelt; dotted where nested."""
    unknown = list(settings.model_extra or ())
    for name in _NESTED:
        nested = getattr(settings, name, None)
        if nested is not None:
            unknown += [f"{name}.{key}" for key in nested.model_extra or ()]
    return unknown
