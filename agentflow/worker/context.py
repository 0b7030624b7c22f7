"""Makes the `Context` of an attempt: what a block may ask of the engine."""

import logging
import math
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from agentflow.accounts import users
from agentflow.blocks.base import Context, Tool
from agentflow.blocks.registry import catalogue
from agentflow.engine.verdict import OWN_COUNTS
from agentflow.engine.waits import Resumed
from agentflow.errors import BlockBug
from agentflow.forking import lazy
from agentflow.graph.catalogue import BlockKind, Dependence
from agentflow.graph.pins import TOOLS, base_name
from agentflow.graph.plan import Plan, PlanNode
from agentflow.logs import TRACE
from agentflow.memories import service as memories
from agentflow.services.child_runs import is_lone
from agentflow.services.transaction import transaction
from agentflow.worker import credentials
from agentflow.worker.attempt import Attempt
from agentflow.worker.process import RunContext
from agentflow.zones import zone

_TOOL_NAME: Final = re.compile(r"[^A-Za-z0-9_-]+")
_LONGEST_TOOL_NAME: Final = 64  # what the providers of models accept
_COUNT: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_MOST_COUNTS: Final = 100  # that one attempt may report: they are stored and shown with its row
_HIGHEST_COUNT: Final = 10**15  # so that a run of many still fits the database's integers


def context(attempt: Attempt, resumed: Resumed | None) -> Context:
    """The context of an attempt."""
    run, node = attempt.run, attempt.node
    return Context(
        run_id=run.run_id,
        node_id=node.id,
        index=attempt.key.idx,
        attempt=attempt.claim.attempt,
        idempotency_key=f"{run.run_id}:{node.id}:{attempt.key.idx}",
        logger=_Logger(attempt),
        cancelled=lambda: attempt.interrupts.cause is not None,
        graph_id=run.plan.graph_id,
        resumed=resumed,
        safe_mode=run.plan.settings.safe_mode,
        tools=tools(run.plan, node.number),
        linked=linked_pins(run, node),
        memory=_Memory(attempt),
        credential=lambda provider: credentials.given(attempt, provider),
        time_zone=lambda: _time_zone(run.owner_id),
        report=_checked(attempt),
    )


def _time_zone(owner_id: UUID) -> ZoneInfo | None:
    with transaction(looks=True) as session:
        name = users.get(session, owner_id).time_zone
    return zone(name) if name else None


class _Logger(logging.LoggerAdapter[logging.Logger]):
    """A block's logger: adds where it runs, and leaves out secrets."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt  # and the rest at the first use: most blocks log nothing

    @lazy
    def logger(self) -> logging.Logger:
        """The logger of all executions of the block."""
        return logging.getLogger(f"agentflow.blocks.{self._attempt.node.block_name}")

    @lazy
    def extra(self) -> Mapping[str, object]:
        """The fields of each line."""
        key, node, claim = self._attempt.key, self._attempt.node, self._attempt.claim
        return {"run": str(key.run_id), "node": node.id, "index": key.idx, "attempt": claim.attempt}

    def log(self, level: int, msg: object, *args: object, **more: Any) -> None:
        if self.isEnabledFor(level):
            text = str(msg) % args if args else str(msg)
            more["stacklevel"] = more.get("stacklevel", 1) + 1
            if exc_info := more.pop("exc_info", None):  # as text, because an exception may quote secrets
                more["extra"] = {**(more.get("extra") or {}), TRACE: _trace(exc_info)}
            super().log(level, "%s", self._attempt.redacted(text), **more)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """The fields of a line: the block's own, and where it runs."""
        given = kwargs.get("extra") or {}
        told = {
            name: value if isinstance(value, bool | int | float) else self._attempt.redacted(str(value))
            for name, value in given.items()
        }
        return msg, {**kwargs, "extra": {**told, **(self.extra or {})}}


def _trace(exc_info: Any) -> str:
    """The traceback that the standard library's `exc_info` names: an exception, a triple, or the current one."""
    error = exc_info[1] if isinstance(exc_info, tuple) else exc_info
    found = error if isinstance(error, BaseException) else sys.exception()
    return "".join(traceback.format_exception(found)).rstrip() if found else ""


class _Memory:
    """The memory of one user's blocks between runs."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._owner_id = attempt.run.owner_id

    def get(self, key: str) -> Any:
        self._notice()
        with transaction() as session:
            return memories.get(session, self._owner_id, key)

    def put(self, key: str, value: Any) -> None:
        self._notice()
        with transaction() as session:
            withheld = self._attempt.without_secrets
            memories.put(session, self._owner_id, withheld(key), withheld(value))

    def _notice(self) -> None:
        """Note that memory was used: without its block declaring it, the outputs are not cached."""
        spec = catalogue(self._attempt.node.block_id)
        if spec is None or Dependence.MEMORY not in spec.depends_on:
            self._attempt.kept = None


def _checked(attempt: Attempt) -> Callable[..., None]:
    def report(**counts: float) -> None:
        for name, count in counts.items():
            if isinstance(count, bool) or not isinstance(count, int | float) or not 0 <= count < math.inf:
                raise BlockBug(f"the block reported {name[:64]} = {count!r:.64}, which is no count")
            if not _COUNT.fullmatch(name):
                raise BlockBug(f"the block reported {name[:64]!r}: a count is named by up to 64 letters, digits and _")
            if attempt.without_secrets(name) != name:
                raise BlockBug("the block reported a count that is named as a secret is: names of counts are shown")
            if name in OWN_COUNTS:
                raise BlockBug(f"the block reported {name!r}, which the engine counts itself: take another name")
        attempt.report(**counts)
        if len(attempt.stats) > _MOST_COUNTS or max(attempt.stats.values(), default=0) > _HIGHEST_COUNT:
            attempt.stats.clear()
            raise BlockBug(f"the block reported more than {_MOST_COUNTS} counts, or one above {_HIGHEST_COUNT}")

    return report


def linked_pins(run: RunContext, node: PlanNode) -> frozenset[str] | None:
    """The linked output pins of a node; None: it runs by itself, and its caller sees all of them."""
    if is_lone(run.plan, run.masks):
        return None
    return frozenset(base_name(link.source_pin) for link in node.links)


def tools(plan: Plan, number: int) -> tuple[Tool, ...]:
    """The nodes linked to the tool pins of node `number`, in the order of their links."""
    if plan.nodes[number].kind is BlockKind.AGENT:  # its pins are its graph's outputs, whatever their names
        return ()
    linked: dict[int, list[str]] = {}
    for link in plan.nodes[number].links:
        if base_name(link.source_pin) == TOOLS:
            linked.setdefault(link.sink, []).append(link.sink_pin)
    taken: set[str] = set()
    return tuple(_tool(plan.nodes[sink], pins, taken) for sink, pins in linked.items())


def _tool(node: PlanNode, pins: list[str], taken: set[str]) -> Tool:
    spec = catalogue(node.block_id)
    declared = _declared_pins(node)
    parameters = _parameters(pins)
    properties = {}
    required = []
    for parameter, pin in parameters.items():
        schema = declared.get(pin)
        properties[parameter] = dict(schema or {})
        if parameter != pin:
            properties[parameter].setdefault("description", pin)
        if schema is None or "default" not in schema:
            required.append(parameter)
    name = _unique(_simplified(node.title).strip("_") or "tool", taken)
    return Tool(
        node_id=node.id,
        name=name,
        description=_description(node, name, spec.description if spec else ""),
        parameters={"type": "object", "properties": properties, "required": required},
        pins=parameters,
    )


def _parameters(pins: Iterable[str]) -> dict[str, str]:
    """Parameter → pin. A pin keeps its name if models accept it; two pins never share one."""
    distinct = dict.fromkeys(pins)
    plain = {pin for pin in distinct if pin == _simplified(pin)[:_LONGEST_TOOL_NAME]}
    taken = set(plain)
    return {pin if pin in plain else _unique(_simplified(pin), taken): pin for pin in distinct}


def _declared_pins(node: PlanNode) -> Mapping[str, Mapping[str, Any]]:
    """Pin → JSON Schema: the block's, or of a sub-graph node its graph's inputs."""
    given = node.input_default.get("input_schema")
    properties: Any = given.get("properties") if isinstance(given, dict) else None
    if isinstance(properties, dict):
        return {name: schema for name, schema in properties.items() if isinstance(schema, dict)}
    spec = catalogue(node.block_id)
    return {} if spec is None else {name: pin.schema for name, pin in spec.inputs.items()}


def _description(node: PlanNode, name: str, of_the_block: str) -> str:
    """What a model is told of the tool; with its title, if the name lost it: «Поиск» becomes `tool_2`."""
    own = node.input_default.get("description")
    told = own if isinstance(own, str) and own.strip() else of_the_block
    if not told or name.startswith(node.title.replace(" ", "_")):
        return told or node.title
    return f"{node.title}: {told}"


def _simplified(text: str) -> str:
    """`text` as providers of models accept names; two texts may become one (`_unique` tells them apart)."""
    return _TOOL_NAME.sub("_", text) or "_"


def _unique(name: str, taken: set[str]) -> str:
    short = name[:_LONGEST_TOOL_NAME]
    number = 1
    while short in taken:
        number += 1
        end = f"_{number}"
        short = name[: _LONGEST_TOOL_NAME - len(end)] + end
    taken.add(short)
    return short
