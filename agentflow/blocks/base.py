"""Defines blocks: what a block author writes, and what the engine relies on.

A block is a class: a fixed id, a name, a pydantic model of its input pins, one of its output pins, and `run`, which
yields (pin, value) pairs. `run` raises `BadInput` if the inputs are at fault, `Transient` if a retry may help, and
anything else if the block itself is wrong. It may also yield a message on the pin `error`, which ends it too.

One instance serves every run of its process, so it must keep nothing between runs. This module must not know which
blocks exist (`registry` does), nor run any (the worker does; `trial` does for tests).
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from logging import Logger, LoggerAdapter
from typing import Annotated, Any, ClassVar, Final, Protocol
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from agentflow.blocks.credentials import Credential
from agentflow.blocks.description import block_info, pins_of
from agentflow.engine.codec import dumps
from agentflow.engine.waits import Resumed, Wait
from agentflow.errors import BadInput, BlockBug, Interrupted
from agentflow.graph.catalogue import CHANGES, ERROR_PIN, BlockKind, BlockSpec, Dependence, PinSpec
from agentflow.graph.costs import Cost, costs_of
from agentflow.graph.pins import TOOLS, is_tool_pin, tool_pin
from agentflow.graph.settings import RetryPolicy

Yields = Iterator[tuple[str, Any] | Wait] | AsyncIterator[tuple[str, Any] | Wait]
"""What `run` returns: a plain or an async generator of (pin, value). If the block waits, a `Wait` is the last item."""

WORK_SECONDS: Final = 60.0
"""The timeout of blocks that read, search or parse values of a graph. They wait for nothing, so one that takes longer
has too much work and must not hold a worker for an hour."""

_NO_GRAPH = UUID(int=0)

_SHOWN_PROBLEMS = 20
"""Wrong inputs listed in one message: 10,000 wrong items must not make a message of a megabyte."""


class BlockInput(BaseModel):
    """The input pins of a block, one field each. Keys without a field (raw dynamic pins) are ignored."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())


class BlockOutput(BaseModel):
    """The output pins of a block, one field each. It declares names and types, and is never instantiated."""

    model_config = ConfigDict(protected_namespaces=())


@dataclass(frozen=True, slots=True)
class Tool:
    """A node linked to a block's tool pins, described as a tool that a model can call.

    Attributes:
        node_id: the node.
        name: letters, digits, `_` and `-`, at most 64 characters; unique among the tools of one block.
        description: what the tool does, for the model.
        parameters: JSON Schema (an object) of a call's arguments.
        pins: parameter → input pin of the node.
    """

    node_id: str
    name: str
    description: str
    parameters: Mapping[str, Any]
    pins: Mapping[str, str]

    def pin(self, parameter: str) -> str:
        """The output pin on which the calling block yields the value of `parameter`."""
        return tool_pin(self.node_id, self.pins[parameter])


class Memory(Protocol):
    """JSON values that the blocks of one user keep between runs, by key."""

    def get(self, key: str) -> Any:
        """The value stored last; None if there is none."""

    def put(self, key: str, value: Any) -> None:
        """Store `value`; None removes the key."""


class Forgetful:
    """The memory of a trial, which lasts as long as its context. `kept`: its content, by key."""

    def __init__(self, kept: Mapping[str, Any] | None = None) -> None:
        self.kept = dict(kept or {})

    def get(self, key: str) -> Any:
        return self.kept.get(key)

    def put(self, key: str, value: Any) -> None:
        if value is None:
            self.kept.pop(key, None)
        else:
            self.kept[key] = value


def _no_credential(provider: str) -> Credential:
    raise BadInput(f"there is no credential for {provider}")


@dataclass(frozen=True)
class Context:
    """What a block knows of its attempt, and what it may ask of the engine.

    Attributes:
        run_id: the run.
        node_id: the node in the graph.
        index: the number of this execution of the node in the run, from 1.
        attempt: the number of this attempt at the execution, from 1.
        idempotency_key: the same text in every attempt of one node execution, so that other services can recognise
            repetitions.
        logger: already carries run, node and attempt.
        cancelled: whether the run was told to stop; cheap enough to call in every turn of a loop.
        graph_id: the run's graph.
        resumed: what the block waited for; None at the first call of a node execution.
        safe_mode: whether steps that need a person's approval wait for it.
        tools: the nodes linked to the block's tool pins, in the order of the document.
        linked: the output pins that have links; None: the block runs without a graph, and all its outputs are used.
        memory: what blocks of this user keep between runs.
        credential: provider → its credential.
            Raises BadInput if there is none.
        time_zone: () → the time zone of the run's owner; None: they gave none.
        report: adds counts to the `stats` of the node execution, summed over its attempts and over the run:
            `report(input_tokens=12, output_tokens=3)`. `cost` is in credits, beside the block's own; `items`,
            `cost_usd` and tokens are what a cost may count. Counts that the engine keeps itself
            (`outputs`, `failures`, `duration`, …) cannot be reported.
    """

    run_id: UUID
    node_id: str
    index: int
    attempt: int
    idempotency_key: str
    logger: Logger | LoggerAdapter[Any]
    cancelled: Callable[[], bool]
    graph_id: UUID = _NO_GRAPH
    resumed: Resumed | None = None
    safe_mode: bool = True
    tools: tuple[Tool, ...] = ()
    linked: frozenset[str] | None = None
    memory: Memory = field(default_factory=Forgetful)
    credential: Callable[[str], Credential] = _no_credential
    time_zone: Callable[[], ZoneInfo | None] = lambda: None
    report: Callable[..., None] = lambda **counts: None

    def is_linked(self, pin: str) -> bool:
        """Whether the block's values on `pin` are used."""
        return self.linked is None or pin in self.linked

    def stop_if_cancelled(self) -> None:
        """Ends a block's long loop once its run was told to stop.

        Raises:
            Interrupted: the run was told to stop.
        """
        if self.cancelled():
            raise Interrupted


@dataclass(frozen=True, slots=True)
class HttpReply:
    """One reply of the web to a request that a block makes while its example runs.

    Attributes:
        url: the address as the block requests it, with its query.
        body: text, bytes, or a JSON value.
        status: the HTTP status.
        headers: the reply's headers; a JSON value sets its Content-Type itself.
        method: the method of the request.
    """

    url: str
    body: Any = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "GET"


@dataclass(frozen=True)
class TestVector:
    """One example of a block, which is also its test.

    Attributes:
        inputs: pin → value.
        outputs: the (pin, value) pairs that the block yields, in order.
        fails: part of the error's message, if the run is to fail after `outputs`.
        waits: the wait that the block yields after `outputs`.
        resumed: what the block is called again with, if the example is of that.
        safe_mode: as in `Context`.
        credentials: provider → the fields of its `Credential`: `{"weather": {"api_key": "k"}}`.
        memory: the content of `context.memory` before the run, by key.
        remembers: its content afterwards; None: not checked.
        http: the replies of the web: all of them must be requested, and nothing else can be. None: requests go out.
    """

    __test__ = False  # keeps pytest from collecting it as a test class

    inputs: dict[str, Any]
    outputs: list[tuple[str, Any]] = field(default_factory=list)
    fails: str | None = None
    waits: Wait | None = None
    resumed: Resumed | None = None
    safe_mode: bool = True
    credentials: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    memory: Mapping[str, Any] = field(default_factory=dict)
    remembers: Mapping[str, Any] | None = None
    http: Sequence[HttpReply] | None = None


class Block(ABC):
    """One kind of work that a node can do.

    Attributes:
        id: a UUID as text that never changes, because graphs refer to the block by it.
        name: for people; also unique.
        description: one or two sentences for people.
        categories: upper-case words under which it is listed.
        kind: the kind of block.
        static_output: whether its links keep their last value for later executions of the sink.
        atomic: whether its outputs are stored only when it completes or waits.
        enabled: whether graphs may use it.
        lane: the workers' queue that it goes to.
        timeout: seconds that an attempt may run, unless the node says; None: the engine's default.
        retry: its retry policy, unless the node or the graph has one.
        gathers: the input pin whose values, from all executions of a node, are gathered into the pin `items`, in groups
            of `size`, or until the run is quiescent.
        for_each: output pins on which it yields any number of values, one per item; if there are no items, a gather
            downstream gives an empty list.
        feedback: input pins that bring back, in a loop, the results of the node's earlier executions; if nothing else
            feeds them, the first execution does not wait for them.
        former_inputs: former name → present name of input pins; graphs with the former name are changed.
        former_outputs: the same for output pins.
        cost: what a node execution costs: a list of `Cost`, of which the first that matches its inputs counts; or a
            number: credits for each COMPLETED one.
        waits: whether its work is done while it waits: by a person, a clock, an event or another run.
        depends_on: what its result depends on besides its inputs, tools and credentials.
        cacheable: whether `settings.cache` may reuse its earlier outputs; None: unless it depends on something that
            changes by itself (memory, time, chance, the outside world).
        sensitive: whether it acts on the outside world in a way that a person may want to approve.
        open_outputs: whether it yields on undeclared output pins too, with any value. Its values on `error` are then
            ordinary outputs, and it fails only by raising.
        vectors: examples; each is run as a test.
    """

    id: ClassVar[str]
    name: ClassVar[str]
    description: ClassVar[str] = ""
    categories: ClassVar[tuple[str, ...]] = ("BASIC",)
    kind: ClassVar[BlockKind] = BlockKind.STANDARD
    static_output: ClassVar[bool] = False
    atomic: ClassVar[bool] = False
    enabled: ClassVar[bool] = True
    lane: ClassVar[str] = "default"
    timeout: ClassVar[float | None] = None
    retry: ClassVar[RetryPolicy | None] = None
    gathers: ClassVar[str | None] = None
    for_each: ClassVar[tuple[str, ...]] = ()
    feedback: ClassVar[tuple[str, ...]] = ()
    former_inputs: ClassVar[Mapping[str, str]] = {}
    former_outputs: ClassVar[Mapping[str, str]] = {}
    cost: ClassVar[int | Sequence[Cost]] = 0
    waits: ClassVar[bool] = False
    depends_on: ClassVar[frozenset[Dependence]] = frozenset()
    cacheable: ClassVar[bool | None] = None
    sensitive: ClassVar[bool] = False
    open_outputs: ClassVar[bool] = False
    vectors: ClassVar[tuple[TestVector, ...]] = ()

    class Input(BlockInput):
        """Takes nothing."""

    class Output(BlockOutput):
        """Gives nothing but `error`."""

    @abstractmethod
    def run(self, inputs: Any, context: Context) -> Yields:
        """Does the work.

        Args:
            inputs: an instance of the block's `Input`. Do not change it: it may be shared with the record of the run.
            context: the attempt that it runs in.

        Returns:
            A plain or an async generator of (output pin, JSON value). The last item may be a `Wait`
            (`agentflow.engine.waits`): the block is called again, with `context.resumed`, when the wait is over.

        Raises:
            BadInput: the inputs are at fault.
            Transient: something outside failed, and a retry may help.
        """

    @classmethod
    def parse(cls, inputs: Mapping[str, Any]) -> BlockInput:
        """`inputs` (pin → value) as an instance of the block's `Input`.

        Raises:
            BadInput: values are missing or wrong; the message names every such pin.
        """
        try:
            return cls.Input.model_validate(dict(inputs))
        except ValidationError as error:
            raise BadInput(_sentence(cls.name, error)) from None

    @classmethod
    def provider(cls, given: Mapping[str, Any], later: Collection[str]) -> str | None:
        """The provider whose credential it needs, if its credentials pin takes several and names none.

        Args:
            given: the values that the node is given in its graph, by pin.
            later: the pins whose values come only during a run.

        Returns:
            The provider; None: any that its credentials pin takes.
        """
        return None

    @classmethod
    def reusable(cls, inputs: Any, pins: Collection[str] = ()) -> bool:
        """Whether earlier outputs may be reused instead of running it. Asked if `cacheable`, before and after a run.

        Args:
            inputs: an instance of its `Input`.
            pins: the pins on which it yielded something; empty before it runs.
        """
        return True

    @classmethod
    def spec(cls) -> BlockSpec:
        """What the graph must know about this block."""
        return _spec(cls)

    @classmethod
    def info(cls) -> dict[str, Any]:
        """The block's public description, as the API shows it. Made once: do not change it."""
        return _info(cls)


def check_output(block: type[Block] | Block, pin: str, value: Any) -> None:
    """Checks an output of a block: `pin` must be declared, and `value` be of its type. The value is not changed.

    Raises:
        BlockBug: one of these does not hold; the message names block and pin.
    """
    cls = block if isinstance(block, type) else type(block)
    if cls.open_outputs and pin not in cls.Output.model_fields:
        return
    if is_tool_pin(pin):
        pin = TOOLS  # a block that calls tools declares this one pin for all tool pins
    if pin not in cls.spec().outputs:
        raise BlockBug(f"{cls.name} has no output pin {pin!r}")
    adapter = _adapter(cls, pin)
    if adapter is None:
        return
    try:
        _accept(adapter, value)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = "".join(f"[{part!r}]" for part in problem["loc"])
        raise BlockBug(f"{cls.name} gave a wrong value on its output pin {pin!r}{where}: {problem['msg']}") from None


def _accept(adapter: TypeAdapter[Any], value: Any) -> None:
    """Checks strictly: a lax check would accept the text "12" for a number, and the sink would get text."""
    try:
        adapter.validate_python(value, strict=True)
    except ValidationError:
        # A pin whose type is a model accepts a dict only from JSON, which the value will become.
        adapter.validate_json(dumps(value), strict=True)


@cache
def _info(cls: type[Block]) -> dict[str, Any]:
    return block_info(cls.spec(), cls.Input, cls.Output)


@cache
def _spec(cls: type[Block]) -> BlockSpec:
    outputs = dict(pins_of(cls.Output, "serialization"))
    outputs.setdefault(ERROR_PIN, PinSpec(ERROR_PIN, annotation=str, schema={"title": "Error", "type": "string"}))
    return BlockSpec(
        id=cls.id,
        name=cls.name,
        kind=cls.kind,
        inputs=pins_of(cls.Input, "validation"),
        outputs=outputs,
        static_output=cls.static_output,
        enabled=cls.enabled,
        lane=cls.lane,
        timeout=cls.timeout,
        retry=cls.retry,
        costs=costs_of(cls.cost),
        depends_on=frozenset(cls.depends_on),
        cacheable=not CHANGES & cls.depends_on if cls.cacheable is None else cls.cacheable,
        gathers=cls.gathers,
        for_each=cls.for_each,
        feedback=cls.feedback,
        waits=cls.waits,
        former_inputs=cls.former_inputs,
        former_outputs=cls.former_outputs,
        provider=cls.provider,
        categories=cls.categories,
        description=cls.description,
    )


@cache
def _adapter(cls: type[Block], pin: str) -> TypeAdapter[Any] | None:
    """The check of one output pin; None if it accepts anything."""
    declared = next((info for name, info in cls.Output.model_fields.items() if (info.alias or name) == pin), None)
    annotation = cls.spec().outputs[pin].annotation
    if annotation is Any:
        return None
    if declared is not None and declared.metadata:
        annotation = Annotated[annotation, *declared.metadata]
    return TypeAdapter(annotation)


def _sentence(name: str, error: ValidationError) -> str:
    """All wrong inputs in one message, without the values, which may be secret."""
    problems = error.errors(include_url=False, include_context=False)
    parts = [
        f"{'.'.join(map(str, problem['loc'])) or 'inputs'}: {_told(problem)}" for problem in problems[:_SHOWN_PROBLEMS]
    ]
    if len(problems) > _SHOWN_PROBLEMS:
        parts.append(f"and {len(problems) - _SHOWN_PROBLEMS} more")
    return f"{name} cannot work with its inputs: {'; '.join(parts)}"


def _told(problem: ErrorDetails) -> str:
    """What is wrong with one input. A null is mentioned, because it looks like a missing value."""
    came_null = problem["input"] is None and problem["type"] != "missing"
    return f"null came. {problem['msg']}" if came_null else problem["msg"]
