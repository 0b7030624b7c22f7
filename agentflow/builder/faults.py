"""Defines the errors and warnings of the builder, and words their messages."""

import difflib
from collections.abc import Iterable

from pydantic import ValidationError

from agentflow.errors import GraphInvalid, Problem

_SHOWN = 30
"""Names or problems listed in one message."""


class NoSuchPin(GraphInvalid, AttributeError):
    """The block has no pin of that name. Also an AttributeError, so that `hasattr` works."""


class Doubtful(UserWarning):
    """The graph can be stored and run, but will hardly do what was meant."""


def fault(message: str, node: str | None = None, pin: str | None = None) -> GraphInvalid:
    """An error with `message`, at one place."""
    return GraphInvalid(message, [Problem(message, node, pin)])


def no_such_pin(whose: str, sort: str, name: str, declared: Iterable[str], node: str) -> NoSuchPin:
    """The error for a missing pin. `sort`: "input pin", "output pin" or "pin"; `whose`: block and node."""
    known = list(declared)
    message = f"{whose} has no {sort} {name!r}{meant(name, known)}; {listed(known)}"
    return NoSuchPin(message, [Problem(message, node, name)])


def sentence(error: ValidationError) -> str:
    """What pydantic found wrong, on one line and without the values, which may be secret."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems[:_SHOWN])


def meant(name: str, known: Iterable[str]) -> str:
    """A suggestion for a misspelt `name`, as the end of a sentence; empty if nothing is similar."""
    near = difflib.get_close_matches(name.lower(), by_lower := {one.lower(): one for one in known}, n=1, cutoff=0.7)
    return f" (did you mean {by_lower[near[0]]!r}?)" if near else ""


def listed(names: list[str]) -> str:
    """`names` as part of a sentence."""
    if not names:
        return "it has none"
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"it has: {', '.join(names[:_SHOWN])}{rest}"
