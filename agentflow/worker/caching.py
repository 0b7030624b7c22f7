"""Has this block given its outputs for these inputs before, and are they good still? `settings.cache` of a node.

A hit costs nothing and runs nothing. Only what completed without waiting is kept.
"""

from collections.abc import Mapping
from typing import Any

from agentflow.blocks.base import Block
from agentflow.services import memories
from agentflow.services.transaction import transaction
from agentflow.worker.attempt import Attempt


def find(attempt: Attempt, block: Block, inputs: Mapping[str, Any]) -> list[tuple[str, Any]] | None:
    """The kept outputs; None: the block must run (and what it yields is recorded, to be kept)."""
    wanted = attempt.node.settings.cache
    if wanted is None:
        return None
    key = memories.digest(block.id, inputs, wanted.key)
    with transaction() as session:
        found = memories.cached(session, attempt.run.owner_id, key)
    if found is None:
        attempt.cache_key, attempt.kept = key, []
    return found


def keep(attempt: Attempt) -> None:
    """Keep what the attempt yielded, if it was to be recorded."""
    wanted = attempt.node.settings.cache
    if wanted is None or attempt.kept is None:
        return
    with transaction() as session:
        memories.cache(session, attempt.run.owner_id, attempt.cache_key, attempt.kept, wanted.ttl)
