"""Words what pydantic finds wrong with a request, for people: "cron: there is no …", and not "Value error, …"."""

from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from agentflow.graph.nearly import meant
from agentflow.schemas.base import Request

_PREFIX: Final = "Value error, "
_NO_NUL: Final = r"^[^\x00]*$"


def worded(error: ValidationError) -> list[str]:
    """What is wrong, each with its place; what is only a value's own has none."""
    found = []
    for entry in error.errors(include_url=False, include_input=False):
        place = ".".join(map(str, entry["loc"]))
        message = _message(error.title, entry)
        found.append(f"{place}: {message}" if place else message)
    return found


def _message(title: str, entry: Any) -> str:
    text: str = entry["msg"]
    given: dict[str, Any] = entry.get("ctx", {})
    match entry["type"]:
        case "value_error":
            return text.removeprefix(_PREFIX)
        case "extra_forbidden":
            return f"there is no such field{_hint(title, entry['loc'])}"
        case "string_pattern_mismatch" if given["pattern"] == _NO_NUL:
            return "it must not contain the character NUL"
        case "too_short" if given["field_type"] == "Value":  # of a secret, whose length pydantic counts late
            return f"it must have at least {given['min_length']} characters"
        case "too_long" if given["field_type"] == "Value":
            return f"it must have at most {given['max_length']} characters"
    return text


def _hint(title: str, place: tuple[int | str, ...]) -> str:
    """`; did you mean 'x'?`, where the request itself has a field of nearly this name."""
    found = meant(str(place[-1]), _fields().get(title, ())) if len(place) == 1 else None
    return f"; did you mean '{found}'?" if found else ""


@cache
def _fields() -> dict[str, tuple[str, ...]]:
    """The fields of all requests, by the name of their class."""
    return {model.__name__: tuple(model.model_fields) for model in _below(Request)}


def _below(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for each in model.__subclasses__():
        yield each
        yield from _below(each)
