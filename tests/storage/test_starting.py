"""A process waits for a database that cannot be reached yet, and ends over what waiting cannot mend."""

import pytest
from addresses import altered

from agentflow.errors import Refused, WrongSchema
from agentflow.storage import starting


@pytest.mark.parametrize("wrong", [{"password": "wrong"}, {"username": "nobody"}, {"database": "nowhere"}])
def test_what_waiting_cannot_mend_is_told_from_what_it_can(wrong: dict[str, str], database_url: str) -> None:
    said: list[str] = []
    with pytest.raises(Refused):
        starting.await_schema(altered(database_url, **wrong), None, said.append)
    assert said == []


def test_an_empty_database_ends_the_wait(empty_database_url: str) -> None:
    with pytest.raises(WrongSchema):
        starting.await_schema(empty_database_url, None, lambda line: None)
