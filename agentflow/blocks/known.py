"""What are blocks called that graphs of the AutoGPT Platform use and that are not here?

Facts alone, for messages: a graph that lacks a block should say which one in words. A block that is installed here,
by another package perhaps, speaks for itself; what it is called in this list no longer matters then.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "f3a8f7e1-4b1d-4e5f-9f2a-7c3d5a2e6b4c": "TranscribeYoutubeVideo",
    }
)
"""Block id → name."""
