"""Examples of blocks can give credentials, memory and what the web answers."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from agentflow.blocks.base import Block, BlockInput, BlockOutput, Context, HttpReply, TestVector
from agentflow.blocks.trial import try_vector
from agentflow.errors import Transient
from agentflow.net.fetching import Body, Limits, fetch

PAGE = "https://pages.test/a?b=1"


class Fetch(Block):
    id, name = "fetch", "Fetch"

    class Input(BlockInput):
        url: str = PAGE
        times: int = 1

    class Output(BlockOutput):
        got: Any

    async def run(self, inputs: Input, context: Context) -> AsyncIterator[tuple[str, Any]]:
        for _ in range(inputs.times):
            try:
                reply = await fetch("GET", inputs.url, {}, Body(), Limits.from_settings())
            except (Transient, AssertionError):
                yield "got", "nothing"
            else:
                yield "got", [reply.status, reply.text]


class Post(Fetch):
    name = "Post"

    def run(self, inputs: Any, context: Context) -> Iterator[tuple[str, Any]]:
        credential, asked = context.credential("pages"), context.memory.get("asked") or 0
        context.memory.put("asked", asked + 1)
        with httpx.Client(headers={"X-Key": credential.api_key}) as client:
            yield "got", client.post(inputs.url, json={"n": asked}).json()


def test_replies_are_given_in_their_order_and_nothing_leaves_the_process():
    replies = [HttpReply(PAGE, "first"), HttpReply(PAGE, b"second", status=503)]
    vector = TestVector({"times": 2}, [("got", [200, "first"]), ("got", [503, "second"])], http=replies)
    try_vector(Fetch(), vector)


def test_credentials_memory_and_json_are_given():
    vector = TestVector(
        {},
        [("got", {"ok": True})],
        credentials={"pages": {"api_key": "k"}},
        memory={"asked": 4},
        remembers={"asked": 5},
        http=[HttpReply(PAGE, {"ok": True}, method="POST")],
    )
    try_vector(Post(), vector)


@pytest.mark.parametrize(
    ("block", "vector", "told"),
    [
        (Fetch(), TestVector({}, [("got", "nothing")], http=[]), "no reply is given for GET https://pages.test"),
        (Fetch(), TestVector({}, [("got", [200, ""])], http=[HttpReply(PAGE)] * 2), "not asked for: GET https://pages"),
        (Fetch(), TestVector({}, [("got", [200, "x"])], http=[HttpReply(PAGE, "y")]), "gave"),
        (Post(), TestVector({}, http=[]), "there is no credential for pages"),
        (
            Post(),
            TestVector(
                {},
                [("got", 1)],
                credentials={"pages": {}},
                remembers={},
                http=[HttpReply(PAGE, 1, method="POST")],
            ),
            "remembers",
        ),
    ],
)
def test_an_example_that_does_not_hold_fails(block, vector, told):
    with pytest.raises(AssertionError, match=told):
        try_vector(block, vector)


def test_model_requests_are_answered_too():
    httpx2 = pytest.importorskip("httpx2")

    class Model(Fetch):
        async def run(self, inputs: Any, context: Context) -> AsyncIterator[tuple[str, Any]]:
            async with httpx2.AsyncClient() as client:
                yield "got", (await client.get(inputs.url)).json()

    try_vector(Model(), TestVector({}, [("got", [1])], http=[HttpReply(PAGE, [1])]))
