"""What a service's answer says of the next attempt."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from agentflow.blocks import registry
from agentflow.blocks.trial import collect
from agentflow.errors import Transient
from agentflow.net import answers
from agentflow.net.answers import retry_after
from agentflow.settings import settings

if TYPE_CHECKING:
    from web_site import Site


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("17", 17),
        (" 0.5 ", 0.5),
        ("0", 0),
        ("-5", 0),
        ("Sat, 28 Feb 2026 23:31:00 GMT", 60),
        ("Sat, 28 Feb 2026 23:31:00 -0000", 60),
        ("Sat, 28 Feb 2026 22:00:00 GMT", 0),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("1e999", None),
        ("Sat, 99 Feb 2026 23:31:00 GMT", None),
    ],
)
def test_the_time_to_be_left_alone_is_a_number_or_a_moment(
    said: str, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "now", lambda: datetime(2026, 2, 28, 23, 30, tzinfo=UTC))
    assert retry_after(httpx.Headers({"Retry-After": said})) == seconds


def test_a_reply_that_does_not_say_leaves_it_to_the_policy() -> None:
    assert retry_after({}) is None


@pytest.mark.parametrize(
    ("block", "inputs"),
    [
        ("FileRead", {"file_input": "{url}"}),
        ("ReadSpreadsheet", {"file_input": "{url}"}),
        ("ExtractWebsiteContent", {"url": "{url}", "raw_content": True}),
        ("ReadRSSFeed", {"rss_url": "{url}"}),
    ],
)
def test_blocks_that_want_an_answer_pass_that_time_on(
    block: str, inputs: dict[str, Any], site: "Site", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings(), "http_allow", (site.pair,))
    url = site.url("/busy/429?after=31")
    with pytest.raises(Transient) as caught:
        collect(registry.by_name(block), {pin: url if value == "{url}" else value for pin, value in inputs.items()})
    assert caught.value.after == 31
