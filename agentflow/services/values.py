"""Shows a stored value as it is or, if it is too long for the view, by its size and beginning."""

from typing import Any, Final

from agentflow.engine.codec import loads
from agentflow.graph.withholding import hidden_preview
from agentflow.storage.views.node_executions import Budget, Value

_KIB = 1024

SHORT: Final = Budget(each=64 * _KIB, total=2 * _KIB * _KIB, outputs=100)
"""In lists."""

FULL: Final = Budget(each=16 * _KIB * _KIB, total=32 * _KIB * _KIB, outputs=1000)
"""Where values were asked for in full."""


def shown(value: Value) -> Any:
    """The value, or {"$truncated": {"bytes": its size, "preview": its first characters}}."""
    if value.text is None:
        return {"$truncated": {"bytes": value.size, "preview": hidden_preview(value.preview or "")}}
    return loads(value.text)
