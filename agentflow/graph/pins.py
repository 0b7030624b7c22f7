"""Parses the names of pins: dynamic pins reach into lists and dictionaries, tool pins name their sink.

`name_$_1` is item 1 of a list, `name_#_key` the entry `key` of a dictionary, `name_@_attr` the attribute `attr` of an
object, which in JSON is a dictionary too. They nest, and are read from left to right, each part up to the next
delimiter. A name with an empty part is a plain name.

On the source of a link such a name selects from an output (`select`); on its sink it puts a value into a container
(`merge`). `tools_^_{sink node id}_~_{sink pin}` is a tool pin: its values go to exactly that node and pin.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any, Final, NamedTuple

MAX_INDEX: Final = 100_000
"""The highest list index that a pin may name. The list is padded up to it, which costs memory."""

MAX_DEPTH: Final = 50
"""Parts of a pin's name. Containers of this depth can still be written as JSON."""

MAX_PADDING: Final = 1_000_000
"""None entries that all lists of one node execution may be padded with, together."""

_MAX_REMEMBERED = 200  # characters of a name that is cached; bounds the cache's memory
_DELIMITER = re.compile(r"_[$#@]_")
_INDEX = re.compile(r"[0-9]{1,9}")
TOOLS: Final = "tools"
"""The pin whose links make their sink nodes tools."""

_TOOL_PREFIX = "tools_^_"
_TOOL_SEPARATOR = "_~_"


class Step(NamedTuple):
    """One step into a container. `kind` is "$" (index), "#" (key) or "@" (attribute)."""

    kind: str
    part: str


def split(pin: str) -> tuple[str, tuple[Step, ...]]:
    """The declared name that `pin` begins with, and the steps into its value (none for a plain name)."""
    return _remembered_split(pin) if len(pin) <= _MAX_REMEMBERED else _split(pin)


def _split(pin: str) -> tuple[str, tuple[Step, ...]]:
    if is_tool_pin(pin):
        return TOOLS, ()
    names = _DELIMITER.split(pin)
    if len(names) == 1 or not all(names):
        return pin, ()
    kinds = [delimiter[1] for delimiter in _DELIMITER.findall(pin)]
    return names[0], tuple(Step(kind, name) for kind, name in zip(kinds, names[1:], strict=True))


_remembered_split = lru_cache(maxsize=8192)(_split)


def base_name(pin: str) -> str:
    """The name under which a block declares `pin`: `values` for `values_#_a`, `tools` for every tool pin."""
    return split(pin)[0]


def declared_name(pin: str, declared: Collection[str]) -> str:
    """The name under which `pin` is declared: its full name if that is declared, else its base name.

    Inputs and outputs of a graph may have names that look like dynamic pins or tool pins.
    """
    return pin if pin in declared else base_name(pin)


def enclosing(pin: str) -> Iterator[str]:
    """`pin`, then the pins whose values contain it, from the inside out: `a_#_b_$_0`, `a_#_b`, `a`."""
    yield pin
    base, steps = split(pin)
    names = list(accumulate(steps[:-1], lambda name, step: f"{name}_{step.kind}_{step.part}", initial=base))
    if steps:
        yield from reversed(names)


def is_tool_pin(pin: str) -> bool:
    """Whether `pin` is `tools` or a pin that names its sink."""
    return pin == TOOLS or pin.startswith(_TOOL_PREFIX)


def tool_target(pin: str) -> tuple[str, str] | None:
    """The (node id, pin) that a tool pin names; None if it names none."""
    if not pin.startswith(_TOOL_PREFIX):
        return None
    node, _, sink_pin = pin[len(_TOOL_PREFIX) :].partition(_TOOL_SEPARATOR)
    return (node, sink_pin) if node and sink_pin else None


def tool_pin(node_id: str, pin: str) -> str:
    """The tool pin whose values go to `pin` of the node `node_id`."""
    return f"{_TOOL_PREFIX}{node_id}{_TOOL_SEPARATOR}{pin}"


def select(selector_pin: str, pin: str, value: Any) -> tuple[bool, Any]:
    """Whether a link from `selector_pin` fires for the output `value` on `pin`, and the value that it carries.

    A link from the pin itself fires with every value, None included. A selector fires with what it finds inside the
    value; if it finds nothing or null, the link does not fire. Never raises.
    """
    if selector_pin == pin:
        return True, value
    base, steps = split(selector_pin)
    if base != pin or not steps or pin == TOOLS:
        return False, None
    for step in steps:
        value = _inside(value, step)
        if value is None:
            return False, None
    return True, value


def merge(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """`inputs` with the containers that its dynamic keys describe, under their base names; the raw keys stay.

    Keys are taken in order. A container given under the base name is extended in a copy; the given values are never
    changed. Lists are padded with None. A key of another kind than the container that it meets replaces the container.
    Takes time proportional to the number of keys, not to the size of the containers.

    Raises:
        ValueError: an index is not a number or too high, or a name has too many parts (the message names the pin); or
            the lists have too many gaps.
    """
    builder = _Builder(dict(inputs))
    for pin, value in inputs.items():
        base, steps = split(pin)
        if steps:
            check_sink(pin)
            builder.put(base, steps, value)
    return builder.root


def check_sink(pin: str) -> None:
    """Checks that a value can be put where `pin` points.

    Raises:
        ValueError: as `merge` does.
    """
    steps = split(pin)[1]
    if len(steps) > MAX_DEPTH:
        raise ValueError(f"pin '{pin[:100]}…' has more than {MAX_DEPTH} parts")
    for kind, part in steps:
        if kind != "$":
            continue
        if not _INDEX.fullmatch(part):
            raise ValueError(f"pin '{pin}': '{part}' is not an index: a whole number from 0 on is needed")
        if int(part) > MAX_INDEX:
            raise ValueError(f"pin '{pin}': the index {part} is above the limit of {MAX_INDEX}")


def _inside(value: Any, step: Step) -> Any:
    """What `step` finds in `value`; None if nothing."""
    if step.kind != "$":
        return value.get(step.part) if isinstance(value, dict) else None
    if not isinstance(value, list | tuple) or not _INDEX.fullmatch(step.part):
        return None
    index = int(step.part)
    return value[index] if index < len(value) else None


class _Builder:
    """Puts values into containers under `root`. It changes only containers that it created."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.root = root
        self._own: dict[int, Any] = {}  # by id(); holding the objects keeps their ids from being reused
        self._padding = 0

    def put(self, base: str, steps: Sequence[Step], value: Any) -> None:
        holder: Any = self.root
        place: str | int = base
        for kind, part in steps:
            container = self._container(holder, place, list if kind == "$" else dict)
            self._set(holder, place, container)
            holder, place = container, int(part) if kind == "$" else part
        self._set(holder, place, value)

    def _container(self, holder: Any, place: str | int, kind: type) -> Any:
        """The container of that kind at `place`, safe to change; a new one if something else is there."""
        there = place < len(holder) if isinstance(place, int) else place in holder
        found = holder[place] if there else None
        if id(found) in self._own and isinstance(found, kind):
            return found
        made = kind(found) if isinstance(found, kind) else kind()
        self._own[id(made)] = made
        return made

    def _set(self, holder: Any, place: str | int, value: Any) -> None:
        if isinstance(place, int) and place >= len(holder):
            self._padding += place - len(holder)
            if self._padding > MAX_PADDING:
                raise ValueError(f"the dynamic pins leave more than {MAX_PADDING} gaps in lists")
            holder.extend([None] * (place + 1 - len(holder)))
        holder[place] = value
