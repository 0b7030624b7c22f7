"""Serves `/api/v1/blocks`: list and describe blocks, and execute one by itself."""

from flask import Response, current_app, url_for
from pydantic import BaseModel

from agentflow.api import audit
from agentflow.api.blueprint import blueprint, owner_id
from agentflow.api.places import Places, client_gone, closing
from agentflow.api.replies import json_response, reply
from agentflow.engine.statuses import RUN_TERMINAL
from agentflow.errors import Busy, TooMany
from agentflow.schemas.blocks import BlockInfo, BlockList, BlockResult, ExecuteBlock
from agentflow.services import blocks
from agentflow.services.transaction import carry_out, transaction

api = blueprint("blocks", "The blocks that graphs are made of.")


class BlockPath(BaseModel):
    """Which block."""

    block_id: str


@api.get("/blocks", responses={200: BlockList})
def list_blocks() -> Response:
    """List all blocks that graphs may use, by name."""
    return json_response({"items": blocks.every()})


@api.get("/blocks/<block_id>", responses={200: BlockInfo})
def get_block(path: BlockPath) -> Response:
    """A block: its pins as JSON Schemas."""
    return json_response(blocks.get(path.block_id))


@api.post("/blocks/<block_id>/execute", responses={200: BlockResult, 202: BlockResult})
def execute_block(path: BlockPath, body: ExecuteBlock) -> Response:
    """Run a block by itself, on a worker, and say what it gave.

    200 when it has ended, however it did; 202 when that takes longer than `wait` seconds, or when too many requests
    wait for blocks already: then `Location` is the run to ask for.
    """
    places: Places = current_app.extensions["block_waits"]
    with transaction() as session:
        run_id = blocks.start(session, owner_id(), path.block_id, body.inputs)
        audit.made(run_id)
    try:
        places.take(owner_id())
    except (Busy, TooMany):
        with transaction() as session:
            result = blocks.look(session, run_id)
    else:
        gone = client_gone()
        try:
            waiting = blocks.wait(run_id, body.wait, lambda seconds: closing.wait(seconds) or gone())
            result = carry_out(waiting)
        finally:
            places.release(owner_id())
    response = reply(result, 200 if result.status in RUN_TERMINAL else 202)
    response.headers["Location"] = url_for("runs.get_run", run_id=result.run_id)
    return response
