"""Which blocks can be run with nothing beside them."""

from agentflow.blocks import registry
from agentflow.graph.catalogue import BlockKind

NEEDS_A_SERVER = {
    "ExecuteCode", "ExtractWebsiteContent", "GetWikipediaSummary", "ReadRSSFeed", "SQLQuery", "SearchTheWeb",
    "SendAuthenticatedWebRequest", "SendEmail", "SendWebRequest",
}  # fmt: skip
"""Or a sandbox: what these do when all goes well stands in tests of their own, as for the blocks that ask models."""

STAND_ALONE = [
    block
    for block in registry.every()
    if block.kind not in (BlockKind.AI, BlockKind.NOTE) and block.name not in NEEDS_A_SERVER
]
