"""Hears through Redis that something was written, and tells workers what is watched here.

Nothing here is needed for the result: while Redis is away, or is none, the hub looks more often.
"""

import asyncio
import logging
import re
from typing import Any, Final
from uuid import UUID, uuid4

import redis.asyncio
from redis.exceptions import RedisError

from agentflow.dispatch import notices
from agentflow.dispatch.watching import ANNOUNCE_SECONDS, ASKED, WAKE_UPS, WATCHED, announcement, slot
from agentflow.live.callers import Callers
from agentflow.live.hub import Hub
from agentflow.logs import log_outage
from agentflow.services.events import scope_of
from agentflow.services.transaction import transaction

logger = logging.getLogger(__name__)

_SECONDS: Final = 2.0
"""Timeout of one call; the wait before another try; and the silence after which a ping is sent."""

_GATHER_SECONDS: Final = 0.008
"""What comes within it is taken together."""

_PIECE: Final = 256 * 1024  # bytes that are read at once
_UUID: Final = rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_MESSAGE: Final = re.compile(
    rb"\$9\r\n(?P<subscribed>subscribe)\r\n"
    rb"|%b\r\n\$(?P<asked>0)\r\n"
    rb"|%b\r\n\$\d+\r\n(?P<ids>%b(?: %b %b)?)\r\n"
    % (re.escape(notices.channel_name(ASKED).encode()), re.escape(WAKE_UPS.encode()), _UUID, _UUID, _UUID)
)
"""What Redis sends: that we are subscribed now, that a worker asks what is watched, or a wake-up."""

_LONGEST_MESSAGE: Final = 512  # bytes of a message that has come in part

_TOLD_SLOTS: Final = 50_000  # in one announcement


class Ears:
    """The connections of this process to Redis.

    Args:
        url: the broker's address.
        hub: is woken.
        callers: their threads are used to ask PostgreSQL.
    """

    def __init__(self, url: str, hub: Hub, callers: Callers) -> None:
        self._url = url
        self._hub = hub
        self._callers = callers
        self._by = str(uuid4())
        self._new: set[int] = set()
        self._some_new = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._whole_is_due = True

    def start(self) -> None:
        """Begin to listen, where the broker is Redis."""
        if self._url.startswith("redis"):
            self._tasks = [
                asyncio.create_task(self._listen(), name="ears"),
                asyncio.create_task(self._announce(), name="announcements"),
            ]

    async def stop(self) -> None:
        """Stop listening."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def watch(self, watched: UUID) -> None:
        """Tell workers soon that this is watched, too."""
        self._new.add(slot(watched))
        self._some_new.set()

    def _say_all(self) -> None:
        self._whole_is_due = True
        self._some_new.set()

    async def _listen(self) -> None:
        while True:
            try:
                async with redis.asyncio.Redis.from_url(
                    self._url, socket_connect_timeout=_SECONDS, socket_timeout=_SECONDS
                ) as client:
                    await self._hear(client)
            except (OSError, RedisError, TimeoutError) as error:
                log_outage(logger, "wake_ups_not_heard", error)
            except Exception:
                logger.exception("wake_ups_not_heard")
            finally:
                self._hub.hears = False
            await asyncio.sleep(_SECONDS / 2)

    async def _hear(self, client: Any) -> None:
        """Read what Redis sends as it is: a message at a time would cost more than all that follows from it."""
        connection = client.connection_pool.make_connection()
        try:
            await connection.connect()
            await connection.send_command("SUBSCRIBE", WAKE_UPS, notices.channel_name(ASKED))
            reader = connection._reader  # of asyncio
            rest, silent = b"", False
            while True:
                try:
                    async with asyncio.timeout(_SECONDS):
                        came = await reader.read(_PIECE)
                except TimeoutError:
                    if silent:
                        raise
                    await connection.send_command("PING", check_health=False)
                    silent = True
                    continue
                if not came:
                    raise ConnectionError("Redis has closed the connection")
                silent = False
                rest = await self._take(rest + came)
                await asyncio.sleep(_GATHER_SECONDS)
        finally:
            await connection.disconnect(nowait=True)

    async def _take(self, data: bytes) -> bytes:
        """Act on the whole messages in `data`. Returns what is behind the last of them."""
        end = 0
        told: dict[bytes, None] = {}  # each once, in their order
        for message in _MESSAGE.finditer(data):
            end = message.end()
            if message["ids"]:
                told[message["ids"]] = None
                continue
            self._say_all()
            if message["subscribed"]:
                self._hub.hears = True
                self._hub.look_at_all()  # what was said before is missed
        for text in told:
            await self._wake(text.decode())
        return data[end:][-_LONGEST_MESSAGE:]

    async def _wake(self, text: str) -> None:
        ids = [UUID(part) for part in text.split()]
        self._hub.wake(*ids)
        if len(ids) == 1 and self._hub.watches_many:  # who wrote it does not know whose run it is
            try:
                self._hub.wake(*await self._callers.in_thread(_whose, ids[0]))
            except Exception as error:  # the hub looks now and then
                log_outage(logger, "run_not_looked_up", error)

    async def _announce(self) -> None:
        while True:
            try:
                async with redis.asyncio.Redis.from_url(
                    self._url, socket_connect_timeout=_SECONDS, socket_timeout=_SECONDS
                ) as client:
                    while True:
                        await self._tell(client)
            except (OSError, RedisError, TimeoutError) as error:
                log_outage(logger, "watched_not_told", error)
            self._whole_is_due = True
            await asyncio.sleep(_SECONDS)

    async def _tell(self, client: Any) -> None:
        """Wait for something to tell, and tell it; all of it now and then, because workers forget it."""
        try:
            await asyncio.wait_for(self._some_new.wait(), ANNOUNCE_SECONDS)
        except TimeoutError:
            self._whole_is_due = True
        self._some_new.clear()
        if self._whole_is_due:
            slots = {slot(one) for one in self._hub.watched}
        else:
            slots = self._new
        whole, self._whole_is_due, self._new = self._whole_is_due, False, set()
        text = announcement(self._by, list(slots)[:_TOLD_SLOTS], whole=whole)
        await client.publish(notices.channel_name(WATCHED), text)


def _whose(run_id: UUID) -> tuple[UUID, ...]:
    with transaction(looks=True) as session:
        return scope_of(session, run_id)
