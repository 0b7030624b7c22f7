"""`agentflow reviews`: what takes the place of the data is of its sort, and a text stays text."""

import json

import pytest

from agentflow.cli.connect import Exit

REVIEW = "8b2a7b3c-6e9d-4a5f-8c1b-2e3f4a5b6c7d"


@pytest.mark.parametrize(
    ("data", "written", "edited"),
    [
        ("1.1", "1.10", "1.10"),
        ("x", "null", "null"),
        ("x", ':={"a": 1}', {"a": 1}),
        (5, "6", 6),
        ({"a": 1}, '{"a": 2}', {"a": 2}),
    ],
)
def test_edited_data_is_of_the_sort_of_the_data_there(command, submit, work, echo, data, written, edited):
    ask = {"name": "Look", "data": data, "editable": True}
    echo["nodes"].append({"id": "ask", "block_id": REVIEW, "input_default": ask})
    work(submit(echo, {"word": 1}))
    approved = command("reviews", "approve", "last", "--data", written, "--json")
    assert approved.exit_code == Exit.OK, approved.stderr
    assert json.loads(approved.stdout)["decided"] == edited
    none = command("reviews", "approve", "last")
    assert none.exit_code == Exit.REFUSED
    assert "nothing waits for a person" in none.stderr
