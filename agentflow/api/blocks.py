"""`/api/v1/blocks`: what graphs can be made of."""

from flask import Response
from pydantic import BaseModel

from agentflow.api.blueprint import blueprint
from agentflow.api.replies import json_response
from agentflow.schemas.blocks import BlockInfo, BlockList
from agentflow.services import blocks

api = blueprint("blocks", "The blocks that graphs are made of.")


class BlockPath(BaseModel):
    """Which block."""

    block_id: str


@api.get("/blocks", responses={200: BlockList})
def list_blocks() -> Response:
    """List all blocks, by name."""
    return json_response({"items": blocks.every()})


@api.get("/blocks/<block_id>", responses={200: BlockInfo})
def get_block(path: BlockPath) -> Response:
    """A block: its pins as JSON Schemas."""
    return json_response(blocks.get(path.block_id))
