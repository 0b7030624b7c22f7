"""Which block does a line of a program mean? A class, a name, an id; or one that is not here."""

from dataclasses import dataclass

from agentflow.blocks import registry
from agentflow.blocks.base import Block
from agentflow.blocks.registry import ABSENT
from agentflow.builder.draft import Draft
from agentflow.builder.faults import meant
from agentflow.errors import NotFound
from agentflow.graph.catalogue import BlockKind, BlockSpec


@dataclass(frozen=True, slots=True)
class Missing:
    """A block that is not installed here, by its id. Its pins cannot be checked, and the graph cannot run here."""

    id: str


BlockLike = type[Block] | Block | str | Missing
"""How a program names a block."""


def spec_of(block: BlockLike) -> BlockSpec | None:
    """What is known of a block; None of one that is `Missing`.

    A class need not be registered: the workers must know it, not the program that builds the graph.

    Raises:
        NotFound: there is no block of that name or id; says which one may be meant.
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
            raise NotFound(f"the block {known} is not here; to use it all the same, add Missing({id!r})")
    raise NotFound(f"there is no block {name!r}{meant(name, blocks)}: `agentflow blocks list` lists them")


def output_of(spec: BlockSpec | None) -> str:
    """The output pin that carries what an input node takes in."""
    names = [] if spec is None else [name for name in spec.outputs if name != "error"]
    return "result" if "result" in names or not names else names[0]


def is_input(spec: BlockSpec | None) -> bool:
    """Whether a block takes in an input of the graph."""
    return spec is not None and spec.kind is BlockKind.INPUT
