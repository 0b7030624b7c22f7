"""Starts a run when something happens elsewhere, with what a webhook received."""

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from agentflow.blocks.base import Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.graph.catalogue import BlockKind


class GenericWebhookTrigger(Block):
    id = "8fa8c167-2002-47ce-aba8-97572fc5d387"
    name = "GenericWebhookTrigger"
    description = "Gives out what a webhook received, and constants of your own beside it."
    categories = ("INPUT",)
    kind = BlockKind.WEBHOOK_MANUAL

    class Input(BlockInput):
        payload: dict[str, Any] = Field({}, description="What the webhook received; filled in by whoever starts a run.")
        constants: dict[str, Any] = Field({}, description="Values that are the same each time.")

    class Output(BlockOutput):
        payload: dict[str, Any] = Field(description="What the webhook received.")
        constants: dict[str, Any] = Field(description="The constants.")

    vectors = (
        TestVector(
            {"payload": {"event": "paid"}, "constants": {"shop": 7}},
            [("constants", {"shop": 7}), ("payload", {"event": "paid"})],
        ),
        TestVector({}, [("constants", {}), ("payload", {})]),
        TestVector({"payload": 5}, fails="payload"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        yield "constants", inputs.constants
        yield "payload", inputs.payload
