"""What does a block author write, and what may the engine rely on?

A block is a class: a fixed id, a name, a pydantic model of its input pins, one of its output pins, and `run`, which
yields (pin, value) pairs. A run of it raises `BadInput` when its user is at fault, `Transient` when trying again may
help, and anything else when the block itself is; or it yields a message on the pin `error`, which ends it too.

An instance serves every run of its process, so it must keep nothing between runs. This module must not know which
blocks exist (`registry` does), nor run any (the worker does; `trial` does for tests).
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from logging import Logger, LoggerAdapter
from typing import Annotated, Any, ClassVar, Final, Protocol
from uuid import UUID

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from agentflow.blocks.credentials import Credential
from agentflow.blocks.description import block_info, pins_of
from agentflow.engine.codec import dumps
from agentflow.engine.waits import Resumed, Wait
from agentflow.errors import BadInput, BlockBug, Interrupted
from agentflow.graph.catalogue import CHANGES, ERROR_PIN, BlockKind, BlockSpec, Dependence, PinSpec
from agentflow.graph.pins import TOOLS, is_tool_pin, tool_pin
from agentflow.graph.settings import RetryPolicy

Yields = Iterator[tuple[str, Any] | Wait] | AsyncIterator[tuple[str, Any] | Wait]
"""What `run` returns: a plain or an async generator of (pin, value), with a `Wait` as its last item if it waits."""

WORK_SECONDS: Final = 60.0
"""The timeout of blocks that read, search or take apart what graphs bring: nothing of theirs waits for anybody, so what
takes longer is too much work, and must not hold a worker for an hour."""

_NO_GRAPH = UUID(int=0)

_SHOWN_PROBLEMS = 20
"""How many wrong inputs one message names: a list of 10,000 wrong items must not make a message of a megabyte."""


class BlockInput(BaseModel):
    """The input pins of a block, one field each. Keys that are no field (raw dynamic pins) are ignored."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())


class BlockOutput(BaseModel):
    """The output pins of a block, one field each: declared for their names and types, never instantiated."""

    model_config = ConfigDict(protected_namespaces=())


@dataclass(frozen=True, slots=True)
class Tool:
    """A node that hangs on a block's tool pins, as something that a model can call.

    Attributes:
        node_id: the node.
        name: letters, digits, `_` and `-`, at most 64; unique among the tools of one block.
        description: what it does, for the model.
        parameters: JSON Schema (an object) of what a call gives it.
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
    """What blocks keep between runs: JSON values by key, of one user."""

    def get(self, key: str) -> Any:
        """What was put last; None where there is nothing."""

    def put(self, key: str, value: Any) -> None:
        """Keep `value`; None takes it away."""


class Forgetful:
    """The memory of a trial: it lasts as long as its context. `kept`: what it holds, by key."""

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
    """What a block may know of the attempt that it runs in, and what it may ask of the engine.

    Attributes:
        run_id: the run.
        node_id: the node in the graph.
        index: which execution of that node in the run this is, from 1.
        attempt: which try at this execution this is, from 1.
        idempotency_key: the same text in every attempt of one node execution, for the outside world to tell
            repetitions by.
        logger: carries run, node and attempt already.
        cancelled: whether the run has been told to stop; cheap enough for every turn of a loop.
        graph_id: the run's graph.
        resumed: what the block waited for; None at the first call of a node execution.
        safe_mode: whether what a person should look at waits for one.
        tools: the nodes that hang on the block's tool pins, in the order of the document.
        linked: the output pins that links leave from; None: the block runs by itself, and who runs it sees them all.
        memory: what blocks of this user keep between runs.
        credential: provider → its credential.
            Raises BadInput where there is none.
        report: adds counts to the node execution's `stats`, which add up over its attempts and to those of its run:
            `report(input_tokens=12, output_tokens=3)`. `cost` is in credits. What the engine counts itself
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
    report: Callable[..., None] = lambda **counts: None

    def is_linked(self, pin: str) -> bool:
        """Whether anybody gets what the block yields on `pin`."""
        return self.linked is None or pin in self.linked

    def stop_if_cancelled(self) -> None:
        """Ends a long loop of a block once its run was told to stop.

        Raises:
            Interrupted: the run was told to stop.
        """
        if self.cancelled():
            raise Interrupted


@dataclass(frozen=True, slots=True)
class HttpReply:
    """What an address answers, once, while an example of a block runs.

    Attributes:
        url: the address, as the block sends it, its query included.
        body: text, bytes, or a JSON value.
        status: the HTTP status.
        headers: of the reply; a JSON value says so by itself.
        method: of the request.
    """

    url: str
    body: Any = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "GET"


@dataclass(frozen=True)
class TestVector:
    """One example of a block at work, which is also its test.

    Attributes:
        inputs: pin → value.
        outputs: the (pin, value) pairs that it yields, in order.
        fails: a part of the error's message, where the run is to end in an error after `outputs`.
        waits: the wait that it yields after `outputs`.
        resumed: what the block is called again with, where the example is of that.
        safe_mode: as in `Context`.
        credentials: provider → the fields of its `Credential`: `{"weather": {"api_key": "k"}}`.
        memory: what `context.memory` holds before, by key.
        remembers: what it holds afterwards, where that matters.
        http: what the web answers, where the block asks it: nothing else is reached then, and all of it must be asked
            for. None: requests go out.
    """

    __test__ = False  # pytest must not take it for a test class

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
        id: a UUID as text that never changes: graphs name the block by it.
        name: for people; unique as well.
        description: one or two sentences for people.
        categories: upper-case words under which it is listed.
        kind: what sort of block it is.
        static_output: its links keep their last value for later executions of the sink.
        atomic: its outputs are stored only when it has ended well, or when it waits.
        enabled: graphs may use it.
        lane: the workers' queue that it goes to.
        timeout: seconds an attempt may run, where the node does not say; None: the engine's default.
        retry: when a failed attempt is made again, where neither node nor graph says.
        gathers: the input pin whose values, of all executions of a node, are gathered into the pin `items`, in groups
            of `size`, or until the run comes to rest.
        for_each: output pins on which it gives any number of values, one an item; where there is no item, a gather
            behind them gives an empty list.
        feedback: input pins that bring back, in a loop, what an earlier execution of the node set in motion; where
            nothing else feeds them, its first execution does not wait for them.
        former_inputs: what input pins were called once → what they are called now; graphs that say so are renamed.
        former_outputs: likewise of output pins.
        cost: credits that a node execution costs when it has COMPLETED.
        waits: its work is done while it waits: by a person, a clock, an event, another run.
        depends_on: what its result depends on besides its inputs, its tools and its credentials.
        cacheable: whether `settings.cache` may give again what it gave before; None: unless it depends on what changes
            by itself (memory, time, chance, the outside world).
        sensitive: it acts on the outside world in a way that a person may want to approve.
        open_outputs: its output pins are not all declared; any name goes, with any value. So what it yields on `error`
            is an output of that name; it fails by raising only.
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
    cost: ClassVar[int] = 0
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
            inputs: an instance of the block's `Input`. It may be shared with the record of the run: do not change it.
            context: the attempt it runs in.

        Returns:
            A plain or an async generator of (output pin, JSON value); its last item may be a `Wait`
            (`agentflow.engine.waits`): then it is called again, with `context.resumed`, when that has come.

        Raises:
            BadInput: the inputs are at fault.
            Transient: something outside is, and it may work the next time.
        """

    @classmethod
    def parse(cls, inputs: Mapping[str, Any]) -> BlockInput:
        """`inputs` (pin → value) as an instance of the block's `Input`.

        Raises:
            BadInput: values are missing or wrong; names every such pin.
        """
        try:
            return cls.Input.model_validate(dict(inputs))
        except ValidationError as error:
            raise BadInput(_sentence(cls.name, error)) from None

    @classmethod
    def provider(cls, given: Mapping[str, Any], later: Collection[str]) -> str | None:
        """Whose credential it asks for, where its credentials pin takes several and names none.

        Args:
            given: what the node is given in its graph, by pin.
            later: the pins whose values only a run brings.

        Returns:
            The provider; None: any that its credentials pin takes.
        """
        return None

    @classmethod
    def reusable(cls, inputs: Any, pins: Collection[str] = ()) -> bool:
        """Whether what it gave may be given again in place of running. Asked if `cacheable`, before and after a run.

        Args:
            inputs: an instance of its `Input`.
            pins: those on which it gave something; before it runs, none.
        """
        return True

    @classmethod
    def spec(cls) -> BlockSpec:
        """What the graph must know about this block."""
        return _spec(cls)

    @classmethod
    def info(cls) -> dict[str, Any]:
        """The block's public description, as the API shows it."""
        return block_info(cls.spec(), cls.description, cls.categories, cls.Input, cls.Output)


def check_output(block: type[Block] | Block, pin: str, value: Any) -> None:
    """Holds a block to its word: `pin` is declared, and `value` is of its type. The value is not altered.

    Raises:
        BlockBug: either is not so; names block and pin.
    """
    cls = block if isinstance(block, type) else type(block)
    if cls.open_outputs and pin not in cls.Output.model_fields:
        return
    if is_tool_pin(pin):
        pin = TOOLS  # a block that calls tools declares this one pin for all of theirs
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
    """Strict, because a lax check would pass the text "12" for a number, and the sink would get text."""
    try:
        adapter.validate_python(value, strict=True)
    except ValidationError:
        # A pin that is itself a model takes a dict from JSON only, and JSON is what the value will become.
        adapter.validate_json(dumps(value), strict=True)


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
        cost=cls.cost,
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
    """The check of one output pin; None where anything goes."""
    declared = next((info for name, info in cls.Output.model_fields.items() if (info.alias or name) == pin), None)
    annotation = cls.spec().outputs[pin].annotation
    if annotation is Any:
        return None
    if declared is not None and declared.metadata:
        annotation = Annotated[annotation, *declared.metadata]
    return TypeAdapter(annotation)


def _sentence(name: str, error: ValidationError) -> str:
    """Every wrong input in one message, without the values: they may be secret."""
    problems = error.errors(include_url=False, include_context=False)
    parts = [
        f"{'.'.join(map(str, problem['loc'])) or 'inputs'}: {_told(problem)}" for problem in problems[:_SHOWN_PROBLEMS]
    ]
    if len(problems) > _SHOWN_PROBLEMS:
        parts.append(f"and {len(problems) - _SHOWN_PROBLEMS} more")
    return f"{name} cannot work with its inputs: {'; '.join(parts)}"


def _told(problem: ErrorDetails) -> str:
    """What is wrong with one input. That null came is said, because it looks like nothing at all."""
    came_null = problem["input"] is None and problem["type"] != "missing"
    return f"null came. {problem['msg']}" if came_null else problem["msg"]
