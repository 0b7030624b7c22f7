"""Runs a single block with given inputs, here and now.

For tests of blocks, ours and those of other authors. There is no engine: nothing is stored, dynamic pins are not
merged, and values are not coerced.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import nullcontext
from typing import Any
from uuid import UUID

from agentflow.blocks.base import Block, Context, Forgetful, TestVector, check_output
from agentflow.blocks.credentials import Credential
from agentflow.blocks.replies import answering
from agentflow.engine.waits import Wait
from agentflow.errors import BadInput, NodeFailure
from agentflow.graph.catalogue import ERROR_PIN


def trial_context(**changes: Any) -> Context:
    """A context for running a block outside the engine; `changes` replaces its fields."""
    values: dict[str, Any] = {
        "run_id": UUID(int=0),
        "node_id": "trial",
        "index": 1,
        "attempt": 1,
        "idempotency_key": "trial:1",
        "logger": logging.getLogger("agentflow.blocks.trial"),
        "cancelled": lambda: False,
    }
    return Context(**(values | changes))


def collect(block: Block, inputs: Mapping[str, Any], context: Context | None = None) -> list[tuple[str, Any]]:
    """Every (pin, value) that `block` yields for `inputs`, in order, up to the first `error` or wait.

    Raises:
        BadInput: `inputs` do not fit the block.
        BlockBug: the block yields on an undeclared pin, or a value of the wrong type.
        Exception: whatever the block raises.
    """
    yielded: list[tuple[str, Any]] = []
    _run(block, inputs, context or trial_context(), yielded)
    return yielded


def try_vector(block: Block, vector: TestVector) -> None:
    """Runs one example of a block.

    Raises:
        AssertionError: the block did something else than `vector` says.
    """
    yielded: list[tuple[str, Any]] = []
    failure: str | None = None
    wait: Wait | None = None
    memory = Forgetful(vector.memory)
    try:
        context = trial_context(
            resumed=vector.resumed, safe_mode=vector.safe_mode, memory=memory, credential=_lookup(vector.credentials)
        )
        with answering(vector.http) if vector.http is not None else nullcontext():
            wait = _run(block, vector.inputs, context, yielded)
        if yielded and yielded[-1][0] == ERROR_PIN and vector.fails is not None:
            failure = str(yielded.pop()[1])
    except NodeFailure as error:
        failure = error.message
    if vector.fails is None:
        assert failure is None, f"{block.name} failed: {failure}"
    else:
        assert failure is not None, f"{block.name} was to fail, but gave {yielded}"
        assert vector.fails in failure, f"{block.name} failed otherwise: {failure}"
    assert yielded == vector.outputs, f"{block.name} gave {yielded}, not {vector.outputs}"
    assert wait == vector.waits, f"{block.name} waits for {wait}, not for {vector.waits}"
    remembers = memory.kept if vector.remembers is None else vector.remembers
    assert memory.kept == remembers, f"{block.name} remembers {memory.kept}, not {remembers}"


def _lookup(given: Mapping[str, Mapping[str, Any]]) -> Callable[[str], Credential]:
    """Provider → its credential, as in the context of a real run."""

    def find(provider: str) -> Credential:
        if provider not in given:
            raise BadInput(f"there is no credential for {provider}")
        return Credential(provider, **given[provider])

    return find


def _run(block: Block, inputs: Mapping[str, Any], context: Context, into: list[tuple[str, Any]]) -> Wait | None:
    """Runs the block and returns the wait with which it ends, if any."""
    produced = block.run(block.parse(inputs), context)
    if isinstance(produced, AsyncIterator):
        return asyncio.run(_drain(block, produced, into))
    for item in produced:
        if not _take(block, item, into):
            return item if isinstance(item, Wait) else None
    return None


async def _drain(
    block: Block, produced: AsyncIterator[tuple[str, Any] | Wait], into: list[tuple[str, Any]]
) -> Wait | None:
    async for item in produced:
        if not _take(block, item, into):
            return item if isinstance(item, Wait) else None
    return None


def _take(block: Block, item: tuple[str, Any] | Wait, into: list[tuple[str, Any]]) -> bool:
    """Records one output. Returns False if it was the last."""
    if isinstance(item, Wait):
        return False
    pin, value = item
    check_output(block, pin, value)
    into.append((pin, value))
    return pin != ERROR_PIN or block.open_outputs
