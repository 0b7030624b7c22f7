"""Finds what a gathering node gives at an execution: a list of the values that arrived, or nothing yet.

Each value that arrives makes an execution of the node. One that completes a group gives the group; the others give
nothing. The remainder is given by an execution that no value made, when nothing of the run is busy
(`storage/hot/sql/12_gather.sql`). The values are read where they are stored, once.
"""

from typing import Any

from agentflow.engine.codec import loads
from agentflow.storage.gathering import group_size
from agentflow.worker.attempt import Attempt


def gather(attempt: Attempt, pin: str, given: dict[str, Any]) -> bool:
    """Put the group that this execution completes into `given["items"]`; False: it completes none."""
    group = group_size(given.get("size"))
    with attempt.process.lock:
        text = attempt.process.hot.gathered(attempt.key, pin, group)
    if text is None:
        return False
    given["items"] = loads(text)
    return True
