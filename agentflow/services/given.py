"""Refuses inputs and masks that cannot be stored, before anything is written."""

from collections.abc import Iterable, Mapping
from typing import Any

from agentflow.engine.codec import dumps, has_utf8_form
from agentflow.errors import BlockBug, Malformed, TooLarge
from agentflow.graph.json_values import MAX_NESTING, storable
from agentflow.settings import settings


def refuse_unstorable(inputs: Mapping[str, Any], masks: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Refuse names and values that cannot be stored.

    Raises:
        TooLarge: a value is larger than one may be.
        Malformed: a name or a value cannot be stored; says which, and never quotes it.
    """
    for name in inputs:
        if "\x00" in name or not has_utf8_form(name):
            raise Malformed(f"the name of an input contains what no name can: {name[:100]!a}")
    _refuse((f"the input {name[:200]!r}", value) for name, value in inputs.items())
    _refuse(
        (f"the mask {node[:200]!r}.{pin[:200]!r}", value)
        for node, pins in (masks or {}).items()
        for pin, value in pins.items()
    )


def _refuse(named: Iterable[tuple[str, Any]]) -> None:
    limit = settings().max_value_bytes
    for name, value in named:
        try:
            text = dumps(value)
            if text.count("[") + text.count("{") > MAX_NESTING:  # else it cannot be so deep
                storable(value)
        except ValueError as error:
            raise Malformed(f"{name} is {error}") from None
        except BlockBug as error:
            raise Malformed(f"{name} is {error.message}") from None
        if len(text) > limit or len(text.encode()) > limit:
            raise TooLarge(f"{name} is larger than a value may be ({limit} bytes)")
