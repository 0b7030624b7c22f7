"""Which input block takes values of this Python type?"""

from datetime import date, time
from enum import Enum
from typing import Any, Final, Literal, get_args, get_origin

from agentflow.blocks.base import Block
from agentflow.builder.faults import fault
from agentflow.builder.lookup import BlockLike

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
    """The input block for `kind`, and what it is given besides.

    Args:
        kind: one of the types above, or of their generic forms (`list[str]`); a Literal or an enumeration, whose
            values people choose from; or an input block.

    Raises:
        GraphInvalid: no input takes it; says what inputs take.
    """
    if get_origin(kind) is Literal:
        return "AgentDropdownInput", {"options": list(get_args(kind))}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "AgentDropdownInput", {"options": [member.value for member in kind]}
    try:
        found = _BLOCKS.get(get_origin(kind) or kind)
    except TypeError:  # it cannot be hashed
        found = None
    if found is not None:
        return found, {}
    if isinstance(kind, str) or (isinstance(kind, type) and issubclass(kind, Block)):
        return kind, {}
    types = ", ".join(getattr(one, "__name__", str(one)) for one in _BLOCKS)
    raise fault(f"there is no input for {kind!r}: there are {types}, Literal, enumerations and input blocks")
