"""Converts a value to the type that a pin declares; lossy on purpose, and never an error.

`coerce` does what users of visual graphs expect: a number at a text pin becomes text, a scalar at a list pin becomes a
list of one. The block's schema check comes after it. `coercible` tells whether `coerce` would invent a value or leave
one that does not fit; validation refuses such literals.

Every conversion below returns (result, honest). honest is False if the result says something that the value did not.
"""

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, MutableSequence, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr, TypeAdapter
from pydantic.errors import PydanticUserError

from agentflow.graph.json_values import number_in
from agentflow.texts import without_mark

Result = tuple[Any, bool]

_SIZED: Final = (list, tuple, dict, set, frozenset)
_LISTS: Final = frozenset({list, tuple, set, frozenset, Sequence, MutableSequence, Collection, Iterable, AbstractSet})
_DICTS: Final = frozenset({dict, Mapping, MutableMapping})


def coerce(value: Any, annotation: Any) -> Any:
    """Converts `value` to the type that `annotation` declares, as far as possible. Never raises for JSON values.

    `annotation` is a type annotation as on a pydantic field. Types that it does not know (dates, other classes) are
    left to the schema check. A None for a whole pin stays None whatever the type: it counts as not given, and the
    caller drops it before the schema check. Inside a container, None stays if the type is optional and is converted
    if it is not.
    """
    return None if value is None else _convert(value, annotation)[0]


def coercible(value: Any, annotation: Any) -> bool:
    """Whether the result of `coerce` fits the type and says what `value` said (a fallback to 0 does not)."""
    return _convert(value, annotation)[1]


def admits_null(annotation: Any) -> bool:
    """Whether null is a value of the type, not a missing one."""
    return _accepts(annotation, None)


def item_annotation(annotation: Any, kind: str) -> Any:
    """The type of a list's items ("$") or of a dictionary's values; Any if none is declared."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return item_annotation(args[0], kind)
    if origin is Union or origin is UnionType:
        return next((item for item in (item_annotation(arg, kind) for arg in args) if item is not Any), Any)
    if kind == "$" and origin in _LISTS:
        return _item_type(origin, args)
    return args[1] if kind != "$" and origin in _DICTS else Any


def _convert(value: Any, annotation: Any) -> Result:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _convert(value, args[0])
    if origin is Union or origin is UnionType:
        return _to_union(value, args)
    if origin is Literal:
        return _to_choice(value, args)
    kind = origin or annotation
    if kind in _SCALARS:
        return _SCALARS[kind](value)
    if kind in _LISTS:
        return _to_list(value, _item_type(kind, args))
    if kind in _DICTS:
        return _to_dict(value, args[1] if len(args) == 2 else Any)
    return _to_class(value, annotation) if isinstance(kind, type) else (value, True)


def _to_class(value: Any, kind: Any) -> Result:
    """Converts None, enumerations and nested models. Every other class checks its values itself."""
    if kind is NoneType:
        return value, value is None
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _to_choice(value, tuple(member.value for member in kind))
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        value = _to_fields(value, kind)
    return value, _accepts(kind, value)


def _to_text(value: Any) -> Result:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str), True


def _to_int(value: Any) -> Result:
    number = _number(value)
    if isinstance(number, float):
        number = int(number) if math.isfinite(number) else None
    return number or 0, number is not None


def _to_float(value: Any) -> Result:
    number = _number(value)
    try:
        return float(number or 0), number is not None
    except OverflowError:  # an integer too large for a float
        return 0.0, False


def _number(value: Any) -> int | float | None:
    """The number that `value` is or says, or the length of a container; None if there is none."""
    if isinstance(value, int | float):
        return int(value) if isinstance(value, bool) else value
    if isinstance(value, _SIZED):
        return len(value)
    return number_in(value) if isinstance(value, str) else None


def _to_bool(value: Any) -> Result:
    return value.lower() in ("true", "1") if isinstance(value, str) else bool(value), True


def _to_list(value: Any, item: Any) -> Result:
    if isinstance(value, dict):
        value = [[key, entry] for key, entry in value.items()]
    elif isinstance(value, str):
        parsed = _parsed(value, "[", "]")
        value = parsed if isinstance(parsed, list) else [value]
    elif not isinstance(value, list):
        value = list(value) if isinstance(value, _SIZED) else [value]
    if item is Any:
        return value, True
    converted = [_convert(entry, item) for entry in value]
    return [entry for entry, _ in converted], all(honest for _, honest in converted)


def _to_dict(value: Any, item: Any) -> Result:
    if isinstance(value, str):
        parsed = _parsed(value, "{", "}")
        value = parsed if isinstance(parsed, dict) else {"value": value}
    elif isinstance(value, list | tuple):
        value = {str(index): entry for index, entry in enumerate(value)}  # JSON keys are texts
    elif not isinstance(value, dict):
        value = {"value": value}
    if item is Any:
        return value, True
    converted = {key: _convert(entry, item) for key, entry in value.items()}
    return {key: entry for key, (entry, _) in converted.items()}, all(ok for _, ok in converted.values())


def _to_union(value: Any, members: tuple[Any, ...]) -> Result:
    """Converts to the member that the value already belongs to, else to the first that converts, else to the first.

    A list at `str | list[str]` stays a list: as text it would be useless to the block.
    """
    if value is None and NoneType in members:
        return None, True
    members = tuple(member for member in members if member is not NoneType)
    for member in members:
        if _belongs(value, member):
            return _convert(value, member)
    results = [_convert(value, member) for member in members]
    return next((result for result in results if result[1]), results[0])


def _belongs(value: Any, annotation: Any) -> bool:
    """Whether `value` is of this type without conversion."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _belongs(value, args[0])
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in args)
    kind = origin or annotation
    if kind in (str, bool):
        return isinstance(value, kind)
    if kind in (int, float):
        return isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    if kind in _LISTS:
        item = _item_type(kind, args)
        return isinstance(value, list) and all(item is Any or _belongs(entry, item) for entry in value)
    if kind in _DICTS:
        item = args[1] if len(args) == 2 else Any
        return isinstance(value, dict) and all(item is Any or _belongs(entry, item) for entry in value.values())
    return not isinstance(kind, type)  # Any, and aliases of JSON


def _to_choice(value: Any, choices: Iterable[Any]) -> Result:
    """The choice that equals `value` or that `value` converts to; else `value`, which the schema check refuses."""
    for choice in choices:
        if value == choice and type(value) is type(choice):
            return value, True
    for choice in choices:
        if _convert(value, type(choice)) == (choice, True):
            return choice, True
    return value, False


def _to_fields(value: Any, model: type[BaseModel]) -> Any:
    """An object (or its JSON text) with its declared fields coerced. Other fields, and other values, are unchanged."""
    if isinstance(value, str):
        value = _parsed(value, "{", "}") or value
    if not isinstance(value, dict):
        return value
    types = {name: field.annotation for name, field in model.model_fields.items()}
    types |= {field.alias: field.annotation for field in model.model_fields.values() if field.alias}
    return {key: coerce(entry, types[key]) if key in types else entry for key, entry in value.items()}


def _item_type(kind: Any, args: tuple[Any, ...]) -> Any:
    """T of list[T], set[T], tuple[T, ...] and the like; Any if there is no single T."""
    if kind is tuple:
        return args[0] if len(args) == 2 and args[1] is ... else Any
    return args[0] if len(args) == 1 else Any


def _parsed(text: str, opening: str, closing: str) -> Any:
    """The JSON in `text` if it is valid and enclosed in these brackets; else None."""
    text = without_mark(text).strip()
    if not (text.startswith(opening) and text.endswith(closing)):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


@lru_cache(maxsize=512)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _accepts(kind: Any, value: Any) -> bool:
    """Whether pydantic accepts `value` for this class. A class that pydantic does not know accepts anything."""
    try:
        _adapter(kind).validate_python(value)
    except (PydanticUserError, TypeError):
        return True
    except ValueError:
        return False
    return True


_SCALARS: Final[dict[Any, Callable[[Any], Result]]] = {
    str: _to_text,
    SecretStr: _to_text,
    int: _to_int,
    float: _to_float,
    bool: _to_bool,
}
