"""The blocks that tell the time, at a moment that the test sets."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from agentflow import clock
from agentflow.blocks import registry
from agentflow.blocks.trial import collect, trial_context
from agentflow.engine.inputs import prepare
from agentflow.errors import BadInput
from agentflow.graph.coercion import coercible

MOMENT = datetime(2026, 2, 28, 23, 30, 5, 120_000, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: MOMENT)


def tell(block: str, **inputs: Any) -> Any:
    """What the block says for inputs as a graph gives them."""
    made = registry.by_name(block)
    [(_, value)] = collect(made, prepare({"trigger": "now", **inputs}, made.spec()))
    return value


def iso(**more: Any) -> dict[str, Any]:
    return {"discriminator": "iso8601", **more}


def pattern(text: str, **more: Any) -> dict[str, Any]:
    return {"discriminator": "strftime", "format": text, **more}


@pytest.mark.parametrize(
    ("block", "inputs", "said"),
    [
        ("GetCurrentTime", {}, "23:30:05"),
        ("GetCurrentTime", {"format_type": {"discriminator": "strftime"}}, "23:30:05"),
        ("GetCurrentTime", {"format_type": pattern("%H:%M")}, "23:30"),
        ("GetCurrentTime", {"format_type": pattern("%H:%M", timezone="Asia/Kolkata")}, "05:00"),
        ("GetCurrentTime", {"format_type": iso()}, "T23:30:05+00:00"),
        ("GetCurrentTime", {"format_type": iso(include_microseconds=True)}, "T23:30:05.120000+00:00"),
        ("GetCurrentTime", {"format_type": iso(timezone="America/New_York")}, "T18:30:05-05:00"),
        ("GetCurrentDate", {}, "2026-02-28"),
        ("GetCurrentDate", {"offset": 59}, "2025-12-31"),
        ("GetCurrentDate", {"offset": "-1"}, "2026-03-01"),
        ("GetCurrentDate", {"offset": ""}, "2026-02-28"),
        ("GetCurrentDate", {"format_type": pattern("%d.%m.", timezone="Europe/Paris")}, "01.03."),
        ("GetCurrentDate", {"format_type": iso(timezone="Europe/Paris", use_user_timezone=True)}, "2026-03-01"),
        ("GetCurrentDateAndTime", {}, "2026-02-28 23:30:05"),
        ("GetCurrentDateAndTime", {"format_type": iso(timezone="Asia/Tokyo")}, "2026-03-01T08:30:05+09:00"),
        ("GetCurrentDateAndTime", {"format_type": iso(include_microseconds=True)}, "2026-02-28T23:30:05.120000+00:00"),
    ],
)
def test_the_time_is_told_as_asked(block: str, inputs: dict[str, Any], said: str) -> None:
    assert tell(block, **inputs) == said


@pytest.mark.parametrize(
    "zone", ["Nowhere/City", "", "America", "/etc/localtime", "../UTC", "a\0b", "\ud800", "x" * 500]
)
def test_a_zone_that_is_none_is_named(zone: str) -> None:
    with pytest.raises(BadInput, match="no time zone called"):
        tell("GetCurrentTime", format_type=iso(timezone=zone))


def test_the_owners_zone_goes_before_the_one_that_is_named_and_only_on_request() -> None:
    made = registry.by_name("GetCurrentTime")
    context = trial_context(time_zone=lambda: ZoneInfo("Asia/Kathmandu"))
    for asked, said in ((True, "05:15"), (False, "08:30")):
        how = pattern("%H:%M", timezone="Asia/Tokyo", use_user_timezone=asked)
        assert collect(made, prepare({"trigger": "now", "format_type": how}, made.spec()), context) == [("time", said)]


def test_a_format_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(BadInput, match="format"):
        tell("GetCurrentTime", format_type=pattern("\ud800"))


def test_a_literal_format_passes_the_check_of_a_graph() -> None:
    pin = registry.by_name("GetCurrentTime").spec().inputs["format_type"]
    assert coercible(iso(timezone="UTC"), pin.annotation)
    assert not coercible({"discriminator": "sundial"}, pin.annotation)
    assert pin.schema["default"]["discriminator"] == "strftime"
