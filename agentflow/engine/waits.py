"""Defines what a node execution may wait for without a worker, and what its block gets afterwards.

A block yields one of these as its last act. The node execution becomes WAITING: a row, and no process, connection or
lock. When what it waits for has come, the block is called again with the same inputs and `context.resumed`, and its
outputs continue where they stopped. `state` is the block's own memory across the wait: JSON, which nobody else reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

WaitKind = Literal["timer", "event", "review", "child"]


@dataclass(frozen=True, slots=True)
class Timer:
    """Wait `seconds` (0 or more; precision 1 s).

    0 is a checkpoint: the block is called again at once, and a lost worker does not repeat what came before. Yield one
    behind what is expensive or would differ the next time, such as a model's answer.
    """

    seconds: float
    state: Any = None

    @property
    def kind(self) -> WaitKind:
        return "timer"


@dataclass(frozen=True, slots=True)
class Event:
    """Wait for an external event, `POST /runs/{id}/signals/{name}`; one that came before is taken, oldest first.

    `Resumed.value` is its payload. `timeout`: seconds after which the block is called without it; None: never.
    """

    name: str
    state: Any = None
    timeout: float | None = None

    @property
    def kind(self) -> WaitKind:
        return "event"


@dataclass(frozen=True, slots=True)
class Review:
    """Wait for a person to look at `data`.

    `Resumed.value` is {"approved": bool, "data": the data, edited where `editable`, "message": text}.

    Attributes:
        data: what is shown.
        name: its title.
        editable: whether who approves it may change it.
        state: the block's own.
        timeout: seconds after which the block is called without it; None: never.
    """

    data: Any
    name: str = ""
    editable: bool = False
    state: Any = None
    timeout: float | None = None

    @property
    def kind(self) -> WaitKind:
        return "review"


@dataclass(frozen=True, slots=True)
class ChildRun:
    """Wait for a run of another graph, as a child of this one; it starts with this wait.

    The block is called whenever the child has given outputs, and when it has ended; until then it waits for the same
    child again. `Resumed.value` is {"outputs": [[name, value], …] since the last call, "cursor": where the next
    call continues, "status": a run's status, "error": text or null, "missing": true where there is no such graph
    (any more)}.

    Attributes:
        graph_id: the graph.
        graph_version: its version; None: the latest.
        inputs: name → value.
        state: the block's own.
        key: tells several children of one node execution apart.
        cursor: from the last call's value; None: from the beginning.
    """

    graph_id: str
    graph_version: int | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    state: Any = None
    key: str = ""
    cursor: Any = None

    @property
    def kind(self) -> WaitKind:
        return "child"


@dataclass(frozen=True, slots=True)
class NodeCall:
    """Wait for one node of this graph, run once as a child run of its own with `inputs` (pin → value): a tool call.

    `Resumed.value` is {"outputs": {pin: [values]}, "status": a run's status, "error": text or null}, at its end.

    Attributes:
        node_id: the node; for a sub-graph node its graph is run.
        inputs: pin → value, over what the node is given in the graph.
        state: the block's own.
        key: tells several calls of one node execution apart.
    """

    node_id: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    state: Any = None
    key: str = ""

    @property
    def kind(self) -> WaitKind:
        return "child"


Wait = Timer | Event | Review | ChildRun | NodeCall


@dataclass(frozen=True, slots=True)
class Asleep:
    """It was woken, but its child run has nothing new for it: it waits again. `state`: as it is stored."""

    key: str
    state: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Waited:
    """What a node execution waited for and found, as stored.

    Attributes:
        kind, key: of the wait.
        state: what the worker kept over the wait.
        result: what came; None: nothing, or null.
        timed_out: nothing came in time.
    """

    kind: WaitKind
    key: str
    state: Mapping[str, Any] | None
    result: Any
    timed_out: bool


@dataclass(frozen=True, slots=True)
class Resumed:
    """What a block that waited is called again with.

    Attributes:
        kind: what it waited for.
        value: what came; see there. None after a timer, and when nothing came in time.
        state: what the block left in its wait.
        timed_out: nothing came in time.
    """

    kind: WaitKind
    value: Any = None
    state: Any = None
    timed_out: bool = False
