"""What are blocks called that graphs of the AutoGPT Platform use and that are not here?

Facts alone, for messages: a graph that lacks a block should say which one in words. A block that is installed here
speaks for itself; what it is called in this list no longer matters then.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "0b02b072-abe7-11ef-8372-fb5d162dd712": "ExecuteCode",
        "436c3984-57fd-4b85-8e9a-459b356883bd": "ExtractWebsiteContent",
        "f5b0f5d0-1862-4d61-94be-3ad0fa772760": "GetWikipediaSummary",
        "5ebe6768-8e5d-41e3-9134-1c7bd89a8d52": "ReadRSSFeed",
        "87840993-2053-44b7-8da4-187ad4ee518c": "SearchTheWeb",
        "fff86bcd-e001-4bad-a7f6-2eae4720c8dc": "SendAuthenticatedWebRequest",
        "4335878a-394e-4e67-adf2-919877ff49ae": "SendEmail",
        "4dc35c0f-4fd8-465e-9616-5a216f1ba2bc": "SQLQuery",
        "f3a8f7e1-4b1d-4e5f-9f2a-7c3d5a2e6b4c": "TranscribeYoutubeVideo",
    }
)
"""Block id → name."""
