"""Turns what a request keeps for runs (of a preset, a schedule, …) into what is stored, and back."""

from typing import Any

from agentflow.api.runs import named
from agentflow.presets.service import Given, kept
from agentflow.schemas.given import ChangedValues, KeptValues


def given_of(body: KeptValues) -> Given:
    """What a request gives to runs."""
    return Given(body.inputs, body.nodes_input_masks, body.labels, body.priority, named(body.credentials))


def changed_given(given: Given, seen: Given, body: ChangedValues) -> Given:
    """`given` with what the body changes; a secret that is sent back as it was `seen` stays. Null is a priority."""
    return Given(
        given.inputs if body.inputs is None else kept(body.inputs, seen.inputs, given.inputs),
        given.masks if body.nodes_input_masks is None else kept(body.nodes_input_masks, seen.masks, given.masks),
        given.labels if body.labels is None else body.labels,
        body.priority if "priority" in body.model_fields_set else given.priority,
        given.credentials if body.credentials is None else named(body.credentials),
    )


def shown_values(seen: Given, version: int | None) -> dict[str, Any]:
    """The fields of `ShownValues`."""
    return {
        "version": version,
        "inputs": dict(seen.inputs),
        "nodes_input_masks": {node: dict(pins) for node, pins in seen.masks.items()},
        "credentials": {key: dict(chosen) for key, chosen in seen.credentials.items()},
        "labels": dict(seen.labels),
        "priority": seen.priority,
    }
