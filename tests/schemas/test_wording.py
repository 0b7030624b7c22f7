"""What is wrong with a request is said in words, with its place, and never as pydantic or a pattern says it."""

import pytest
from pydantic import ValidationError

from agentflow.notifications.schemas import NewChannel, NewPreferences
from agentflow.schedules.schemas import NewSchedule
from agentflow.schemas.wording import worded
from agentflow.triggers.schemas import NewTrigger

SCHEDULE = {"name": "n", "graph_id": "019a0000-0000-7000-8000-000000000000"}


@pytest.mark.parametrize(
    ("model", "given", "said"),
    [
        (NewSchedule, {**SCHEDULE, "crn": "@daily"}, "crn: there is no such field; did you mean 'cron'?"),
        (NewSchedule, {**SCHEDULE, "wholly_other": 1}, "wholly_other: there is no such field"),
        (NewSchedule, {**SCHEDULE, "name": "a\0"}, "name: it must not contain the character NUL"),
        (NewSchedule, {**SCHEDULE, "cron": "@daily", "every": 5}, "`cron`, `every` and `at` exclude each other"),
        (
            NewSchedule,
            {**SCHEDULE, "time_zone": "Berlin"},
            "time_zone: there is no time zone called 'Berlin'; did you mean 'Europe/Berlin'?",
        ),
        (
            NewSchedule,
            {**SCHEDULE, "time_zone": "Berlin time"},
            "time_zone: a time zone has a name such as Europe/Paris",
        ),
        (NewTrigger, {**SCHEDULE, "secret": "short"}, "secret: it must have at least 8 characters"),
        (NewTrigger, {**SCHEDULE, "secret": "x" * 300}, "secret: it must have at most 200 characters"),
        (NewChannel, {"kind": "webhook", "name": "n", "address": ""}, "address: it must have at least 1 characters"),
        (
            NewPreferences,
            {"quiet_hours": {"start": "10pm", "end": "07:00"}},
            "quiet_hours.start: a time of the day is written as 07:30 or 22:00",
        ),
        (
            NewTrigger,
            {**SCHEDULE, "delivery_id": {"path": "order.id"}},
            "delivery_id.path: a path is written as $.name[0]['another name']",
        ),
    ],
)
def test_it_is_said_in_words(model, given, said):
    with pytest.raises(ValidationError) as caught:
        model.model_validate(given)
    assert worded(caught.value) == [said]
