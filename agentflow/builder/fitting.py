"""Can what a pin gives out ever be taken by another? Only sure misfits are told: nearly everything is coerced.

Sure is what can be tried out: outputs with few possible values (a truth value, a choice), of which the sink's type
takes none.
"""

from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from agentflow.graph.catalogue import PinSpec
from agentflow.graph.coercion import coercible, item_annotation
from agentflow.graph.pins import split


def never_fits(source: Any, sink: Any) -> bool:
    """Whether no value of the type `source` can be taken as one of the type `sink`."""
    values = _values(source)
    return bool(values) and not any(coercible(value, sink) for value in values or ())


def annotation_at(declared: PinSpec | None, name: str) -> Any:
    """The type of what is at the place `name`, as far as the pin declares it."""
    annotation = declared.annotation if declared is not None else Any
    for step in split(name)[1]:
        annotation = item_annotation(annotation, step.kind)
    return annotation


def _values(annotation: Any) -> list[Any] | None:
    """All values of a type; None where there is no end to them."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _values(args[0])
    if origin is Literal:
        return list(args)
    if origin is Union or origin is UnionType:
        members = [_values(arg) for arg in args if arg is not NoneType]
        return None if None in members else [value for found in members for value in found or ()]
    if annotation is bool:
        return [True, False]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [member.value for member in annotation]
    return None
