"""What can be wrong with a line that builds a graph, and how is it told?"""

import difflib
from collections.abc import Iterable

from pydantic import ValidationError

from agentflow.errors import GraphInvalid, Problem

_SHOWN = 30
"""Names or problems that one message lists."""


class NoSuchPin(GraphInvalid, AttributeError):
    """The block has no pin of that name. An AttributeError too, so that `hasattr` works as anywhere."""


class Doubtful(UserWarning):
    """This can be stored and run, but it will hardly do what was meant."""


def fault(message: str, node: str | None = None, pin: str | None = None) -> GraphInvalid:
    """The error that says `message` of one place."""
    return GraphInvalid(message, [Problem(message, node, pin)])


def no_such_pin(whose: str, sort: str, name: str, declared: Iterable[str], node: str) -> NoSuchPin:
    """The error for a pin that is not there. `sort`: "input pin", "output pin" or "pin"; `whose`: block and node."""
    known = list(declared)
    message = f"{whose} has no {sort} {name!r}{meant(name, known)}; {listed(known)}"
    return NoSuchPin(message, [Problem(message, node, name)])


def sentence(error: ValidationError) -> str:
    """What pydantic finds wrong, on one line and without the values: they may be secret."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems[:_SHOWN])


def meant(name: str, known: Iterable[str]) -> str:
    """A guess at what `name` was to be, as the end of a sentence; empty where nothing is near."""
    near = difflib.get_close_matches(name.lower(), by_lower := {one.lower(): one for one in known}, n=1, cutoff=0.7)
    return f" (did you mean {by_lower[near[0]]!r}?)" if near else ""


def listed(names: list[str]) -> str:
    """`names` as a sentence."""
    if not names:
        return "it has none"
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"it has: {', '.join(names[:_SHOWN])}{rest}"
