"""Describes blocks to code that must not import them: for the graph's catalogue, and for the API's public description.

Both descriptions are derived from the pydantic models, so a block author declares a pin only once.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from agentflow.graph.catalogue import ERROR_PIN, BlockKind, BlockSpec, PinSpec

_SHOWN_WITHOUT_ERROR: Final = frozenset({BlockKind.INPUT, BlockKind.OUTPUT, BlockKind.AGENT})
"""The kinds that editors describe without the pin `error`; links may leave from it nevertheless."""


def pins_of(model: type[BaseModel], mode: Literal["validation", "serialization"]) -> Mapping[str, PinSpec]:
    """The pins that the fields of `model` declare, by name (a field's alias, if it has one).

    A field with `json_schema_extra={"secret": True}` is a secret pin.
    """
    document = model.model_json_schema(mode=mode)
    properties, definitions = document.get("properties", {}), document.get("$defs", {})
    pins = {}
    for field_name, field in model.model_fields.items():
        name = field.alias or field_name
        pins[name] = _pin(name, field, _standalone(properties[name], definitions))
    return MappingProxyType(pins)


def block_info(spec: BlockSpec, input_model: type[BaseModel], output_model: type[BaseModel]) -> dict[str, Any]:
    """The public description of a block, as JSON.

    Returns:
        id, name, inputSchema, outputSchema, costs, description, categories, contributors, staticOutput, uiType.
    """
    outputs = output_model.model_json_schema(mode="serialization")
    properties = outputs.setdefault("properties", {})
    if spec.kind not in _SHOWN_WITHOUT_ERROR:
        properties.setdefault(ERROR_PIN, dict(spec.outputs[ERROR_PIN].schema))
    return {
        "id": spec.id,
        "name": spec.name,
        "inputSchema": input_model.model_json_schema(mode="validation"),
        "outputSchema": outputs,
        "costs": [cost.as_json() for cost in spec.costs],
        "description": spec.description,
        "categories": [{"category": category, "description": ""} for category in spec.categories],
        "contributors": [],
        "staticOutput": spec.static_output,
        "uiType": spec.kind.value,
    }


def _pin(name: str, field: FieldInfo, schema: dict[str, Any]) -> PinSpec:
    required = field.is_required()
    return PinSpec(
        name=name,
        annotation=field.annotation,
        required=required,
        default=None if required else field.get_default(call_default_factory=True, validated_data={}),
        secret=bool(schema.get("secret", False)),
        schema=schema,
    )


def _standalone(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A property's schema that can be read without the rest of the document."""
    return {**schema, "$defs": definitions} if definitions and "$ref" in json.dumps(schema) else dict(schema)
