"""Takes the values of a block one by one, from a plain or an async generator.

An async one gets an event loop of its own, for as long as it yields; between two values nothing of it runs.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

from agentflow.blocks.base import Block
from agentflow.errors import BlockBug


def iterate(running: Any, block: Block) -> Any:
    """The result of a block's `run` as a plain generator.

    Raises:
        BlockBug: it is no generator.
    """
    if isinstance(running, AsyncIterator):
        return _from_async(running)
    if isinstance(running, Iterator):
        return (item for item in running)
    if asyncio.iscoroutine(running):
        running.close()
    raise BlockBug(f"{block.name}.run returned {type(running).__name__}, not a generator")


def _from_async(running: AsyncIterator[Any]) -> Iterator[Any]:
    loop = asyncio.new_event_loop()
    step: asyncio.Task[Any] | None = None
    try:
        while True:
            step = loop.create_task(_step(running))
            try:
                yield loop.run_until_complete(step)
            except StopAsyncIteration:
                return
    finally:
        _wind_up(loop, running, step)


async def _step(running: AsyncIterator[Any]) -> Any:
    return await anext(running)


def _wind_up(loop: asyncio.AbstractEventLoop, running: AsyncIterator[Any], step: asyncio.Task[Any] | None) -> None:
    """Close the generator and its loop, after cancelling an interrupted step."""
    try:
        if step is not None and not step.done():
            step.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration):
                loop.run_until_complete(step)
        if hasattr(running, "aclose"):
            loop.run_until_complete(running.aclose())
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
