"""Parses request bodies as JSON, whatever their Content-Type, and explains what is wrong with them."""

import json
import math
from typing import Any, Final, TypeVar

import flask
from pydantic import BaseModel, ValidationError

from agentflow.engine.codec import has_utf8_form
from agentflow.errors import Malformed, Problem
from agentflow.schemas.wording import worded

MAX_DEPTH: Final = 150
"""Levels of nested containers in a body: those of a literal (`graph.json_values.MAX_NESTING`) and of its document."""

_Model = TypeVar("_Model", bound=BaseModel)


class JsonRequest(flask.Request):
    """A request whose body is JSON or empty. NaN and Infinity are accepted as numbers, although JSON lacks them."""

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        """The body.

        Raises:
            Malformed: it is not JSON (the message says where), or a key in it has no UTF-8 form.
            RequestEntityTooLarge: it is larger than the limit.
        """
        body = self.get_data()
        if not body:
            raise Malformed("the request has no body; JSON is expected")
        content = parsed(body)
        if not isinstance(content, dict):
            raise Malformed("the body must be a JSON object")
        return content


def optional_body(model: type[_Model]) -> _Model:
    """The body of the present request as `model`; without a body, the model's defaults.

    Raises:
        Malformed: it is not JSON, or does not match `model`; names every place.
    """
    if not flask.request.get_data():
        return model()
    try:
        return model.model_validate(flask.request.get_json())
    except ValidationError as error:
        raise malformed(error) from None


def malformed(error: ValidationError) -> Malformed:
    """The error for a request that does not match its model, with all places."""
    problems = [Problem(text) for text in worded(error)]
    return Malformed(problems[0].message, problems)


def parsed(body: bytes, *, strict: bool = False) -> Any:
    """The JSON value in a body; `strict`: without NaN, Infinity, and numbers too large for a float.

    Raises:
        Malformed: it is none (the message says where), is nested too deep, or a key in it occurs twice or has no UTF-8
            form.
    """
    content = _loaded(body, strict)
    if b"\\ud" in body or b"\\uD" in body:  # the body is UTF-8, so only an escape can contain a surrogate
        _refuse_unwritable_keys(content)
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        _refuse_deep(content)
    return content


def _loaded(body: bytes, strict: bool) -> Any:
    try:
        return json.loads(
            body.decode("utf-8-sig"),  # RFC 8259 allows readers to ignore a byte order mark
            object_pairs_hook=_unique_keys,
            parse_constant=_no_number if strict else None,
            parse_float=_finite if strict else None,
        )
    except Malformed:
        raise
    except UnicodeDecodeError:
        raise Malformed("the body is not JSON: it is not UTF-8") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise Malformed(f"the body is not JSON: {error.msg} at {place}") from None
    except RecursionError:
        raise Malformed("the body is nested too deep") from None
    except ValueError as error:  # an integer with more digits than Python parses
        raise Malformed(f"the body cannot be read: {error}") from None


def _no_number(text: str) -> float:
    raise Malformed(f"the body is not JSON: {text} is no number there")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Malformed(f"the number {text[:40]} is too large to be read")
    return number


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse duplicate keys: JSON parsers disagree on which value counts."""
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Malformed(f"the key {twice[:100]!a} occurs twice in one object")
    return made


def _refuse_deep(content: Any) -> None:
    level, depth = [content], 0
    while level:
        if (depth := depth + 1) > MAX_DEPTH:
            raise Malformed(f"the body is nested deeper than {MAX_DEPTH} levels")
        below = (part.values() if isinstance(part, dict) else part for part in level)
        level = [item for items in below for item in items if isinstance(item, dict | list)]


def _refuse_unwritable_keys(content: Any) -> None:
    """Refuse keys without a UTF-8 form: they become names of inputs, nodes and pins in columns and logs. Values may
    contain anything."""
    waiting = [content]
    while waiting:
        container = waiting.pop()
        if isinstance(container, dict):
            for key in container:
                if not has_utf8_form(key):
                    raise Malformed(f"the key {key!a} contains half a surrogate pair, which is no character")
            waiting += container.values()
        elif isinstance(container, list):
            waiting += container
