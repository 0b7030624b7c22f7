"""What is expected while PostgreSQL or the broker is away is said in a line now and then, without a traceback."""

import logging

import pytest

from agentflow import logs
from agentflow.errors import Unavailable
from agentflow.logs import FORMAT, FieldsFormatter, log_outage

logger = logging.getLogger(__name__)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which the test sets; nothing was said before."""
    time = [1000.0]
    monkeypatch.setattr(logs, "monotonic", lambda: time[0])
    monkeypatch.setattr(logs, "_outages", logs._Outages())
    return time


def test_an_outage_is_said_once_and_then_how_often_it_was_not(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(500):
        log_outage(logger, "request_refused_for_now", Unavailable("gone"), request_id="7")
    log_outage(logger, "settle_postponed", Unavailable("gone"))
    clock[0] += logs.OUTAGE_EVERY
    log_outage(logger, "request_refused_for_now", Unavailable("gone"))
    assert [(record.message, record.left_out) for record in caplog.records] == [  # type: ignore[attr-defined]
        ("request_refused_for_now", 0),
        ("settle_postponed", 0),
        ("request_refused_for_now", 499),
    ]
    lines = [FieldsFormatter(FORMAT).format(record) for record in caplog.records]
    assert not any("\n" in line for line in lines)
    assert "error=gone" in lines[0]
    assert "request_id=7" in lines[0]
