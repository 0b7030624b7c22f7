"""Finds the block that a program names: by class, name or id, or by the Python type of an input."""

from dataclasses import dataclass
from datetime import date, time
from enum import Enum
from typing import Any, Final, Literal, get_args, get_origin

from agentflow.blocks import registry
from agentflow.blocks.base import Block
from agentflow.blocks.registry import ABSENT
from agentflow.builder.draft import Draft
from agentflow.builder.faults import fault, meant
from agentflow.errors import NotFound
from agentflow.graph.catalogue import BlockKind, BlockSpec


@dataclass(frozen=True, slots=True)
class Missing:
    """A block that is not installed here, by its id. Its pins cannot be checked, and the graph cannot run here."""

    id: str


BlockLike = type[Block] | Block | str | Missing
"""The ways in which a program may name a block."""


def spec_of(block: BlockLike) -> BlockSpec | None:
    """The description of a block; None if it is `Missing`.

    A class need not be registered: the workers must know it, not the program that builds the graph.

    Raises:
        NotFound: there is no block of that name or id; the message may suggest one.
        TypeError: `block` is none of the above.
    """
    if isinstance(block, Missing):
        return None
    if isinstance(block, Block):
        return type(block).spec()
    if isinstance(block, type) and issubclass(block, Block):
        return block.spec()
    if not isinstance(block, str):
        raise TypeError(f"a block is named by its class, its name or its id, not by {block!r}{_instead(block)}")
    return registry.catalogue(block) or _by_name(block)


def _instead(thing: object) -> str:
    return ": `sub_graph` adds a node that runs a graph" if isinstance(thing, Draft) else ""


def _by_name(name: str) -> BlockSpec:
    blocks = {block.name: block for block in registry.every()}
    if name in blocks:
        return blocks[name].spec()
    for id, known in ABSENT.items():
        if name in (id, known):
            raise NotFound(f"the block {known} is not here; to use it anyway, add Missing({id!r})")
    raise NotFound(f"there is no block {name!r}{meant(name, blocks)}: `agentflow blocks list` lists them")


def output_of(spec: BlockSpec | None) -> str:
    """The output pin of an input node that carries the input's value."""
    names = [] if spec is None else [name for name in spec.outputs if name != "error"]
    return "result" if "result" in names or not names else names[0]


def is_input(spec: BlockSpec | None) -> bool:
    """Whether a block takes an input of the graph."""
    return spec is not None and spec.kind is BlockKind.INPUT


_BLOCKS: Final[dict[Any, str]] = {
    Any: "AgentInput",
    object: "AgentInput",
    float: "AgentInput",
    list: "AgentInput",
    dict: "AgentInput",
    str: "AgentShortTextInput",
    int: "AgentNumberInput",
    bool: "AgentToggleInput",
    date: "AgentDateInput",
    time: "AgentTimeInput",
}


def input_block(kind: Any) -> tuple[BlockLike, dict[str, Any]]:
    """The input block for `kind`, and the literals that it needs.

    Args:
        kind: one of the types above, or of their generic forms (`list[str]`); a Literal or an enumeration, whose
            values are the choices; or an input block.

    Raises:
        GraphInvalid: no input takes it; the message lists the types that inputs take.
    """
    if get_origin(kind) is Literal:
        return "AgentDropdownInput", {"options": list(get_args(kind))}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "AgentDropdownInput", {"options": [member.value for member in kind]}
    try:
        found = _BLOCKS.get(get_origin(kind) or kind)
    except TypeError:  # not hashable
        found = None
    if found is not None:
        return found, {}
    if isinstance(kind, str) or (isinstance(kind, type) and issubclass(kind, Block)):
        return kind, {}
    types = ", ".join(getattr(one, "__name__", str(one)) for one in _BLOCKS)
    raise fault(f"there is no input for {kind!r}: there are {types}, Literal, enumerations and input blocks")
