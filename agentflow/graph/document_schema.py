"""The JSON Schema of a graph's document, for editors that complete and check what people write."""

from typing import Any

from agentflow.graph.model import Graph


def document_schema() -> dict[str, Any]:
    """A JSON Schema (draft 2020-12). It knows shapes; whether blocks and pins are there is checked at save."""
    schema = Graph.model_json_schema(mode="validation")
    for name, part in schema["$defs"].items():
        if name == "Graph":
            part["properties"]["id"] = _text("The graph's id; any text that sub-graph nodes of the document name.")
        elif name == "Node":
            part["properties"]["block_id"] |= {"description": "The id of a block, or its name."}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "AgentFlow graph", **schema}


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "maxLength": 200, "description": description}
