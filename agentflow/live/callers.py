"""Lets callers in, by an API key or a session, and cuts them off when that is withdrawn.

A withdrawal is told through Redis, and ends connections within a second. While Redis is away all are verified again
every `RECHECK_SECONDS_UNHEARD`; and in any case every `RECHECK_SECONDS`, which also notes that sessions are in use.
Nobody gets more than half of a process's connections.
"""

import asyncio
import contextlib
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from uuid import UUID

from agentflow import clock
from agentflow.accounts.keys import Caller
from agentflow.accounts.scopes import Scope
from agentflow.errors import AgentFlowError, Busy, Forbidden, TooMany, Unauthenticated, Unavailable
from agentflow.live.messages import Cut
from agentflow.live.readers import Reader
from agentflow.logs import log_outage
from agentflow.services.authentication import Authenticator

logger = logging.getLogger(__name__)

RECHECK_SECONDS: Final = 300.0
RECHECK_SECONDS_UNHEARD: Final = 15.0

_THREADS: Final = 3  # that verify callers and open channels; each connection waits for its own
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Credentials:
    """How a caller was identified, and who they are.

    Attributes:
        secret: the key, or a session's secret.
        is_key: which of the two.
        scopes: what is needed all the time.
    """

    secret: str
    is_key: bool
    caller: Caller
    scopes: frozenset[Scope]


class _Verifier(Authenticator):
    """Verifies, and passes on that somebody's keys or sessions have changed (None: perhaps anybody's)."""

    def __init__(self, changed: Callable[[str | None], object]) -> None:
        super().__init__()
        self._changed = changed

    def heard(self, text: str) -> None:
        super().heard(text)
        self._changed(text)

    def deaf(self) -> None:
        super().deaf()
        self._changed(None)


class Callers:
    """Those who are connected to this process.

    Args:
        most: connections in all; an owner gets half.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._each = (most + 1) // 2
        self._connected = 0
        self._of_owner: Counter[UUID] = Counter()
        self._readers: defaultdict[UUID, set[Reader]] = defaultdict(set)
        self._threads = ThreadPoolExecutor(_THREADS, "caller")
        self._verifier = _Verifier(self._changed)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._to_check: set[UUID] = set()
        self._some_to_check = asyncio.Event()
        self._check_all_at = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to look after the connections."""
        self._loop = asyncio.get_running_loop()
        self._check_all_at = clock.monotonic() + RECHECK_SECONDS
        self._tasks = [
            asyncio.create_task(work, name=name)
            for name, work in (("rechecks", self._recheck()), ("sweeps", self._sweep()))
        ]

    async def stop(self) -> None:
        """Stop looking after them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def in_thread(self, act: Callable[..., _Result], *values: Any) -> _Result:
        """Call a function that asks PostgreSQL."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, act, *values)

    def enter(self) -> None:
        """Take one of the connections of this process, for somebody who is not known yet.

        Raises:
            Busy: all are taken.
        """
        if self._connected >= self._most:
            raise Busy("all connections of this process are taken; try again in a moment")
        self._connected += 1

    def leave(self) -> None:
        """Give back a connection."""
        self._connected -= 1

    async def identify(self, secret: str, *, is_key: bool, scope: Scope) -> Credentials:
        """Who has this key or session.

        Raises:
            Unauthenticated, Forbidden: as for a request to the API.
            Unavailable: PostgreSQL does not answer.
        """
        caller = await self.in_thread(self._verify, secret, is_key)
        caller.require(scope)
        return Credentials(secret, is_key, caller, frozenset({scope}))

    def add(self, reader: Reader) -> None:
        """Count a reader for its owner.

        Raises:
            TooMany: the owner has as many connections as one may have.
        """
        owner_id = reader.credentials.caller.user_id
        if self._of_owner[owner_id] >= self._each:
            raise TooMany(f"you have {self._each} connections already: close one")
        self._of_owner[owner_id] += 1
        self._readers[owner_id].add(reader)

    def remove(self, reader: Reader) -> None:
        """Forget a reader."""
        owner_id = reader.credentials.caller.user_id
        if reader in self._readers[owner_id]:
            self._readers[owner_id].discard(reader)
            self._of_owner[owner_id] -= 1
        if not self._readers[owner_id]:
            del self._readers[owner_id]
            del self._of_owner[owner_id]

    @property
    def everybody(self) -> list[Reader]:
        """All readers."""
        return [reader for readers in self._readers.values() for reader in readers]

    def _verify(self, secret: str, is_key: bool) -> Caller:
        return self._verifier.caller_of(secret) if is_key else self._verifier.person_of(secret)

    def _changed(self, user_id: str | None) -> None:
        """From the thread that listens."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._note_change, user_id)

    def _note_change(self, user_id: str | None) -> None:
        if user_id is None:
            self._check_all_at = min(self._check_all_at, clock.monotonic() + RECHECK_SECONDS_UNHEARD)
        else:
            self._to_check.add(UUID(user_id))
        self._some_to_check.set()

    async def _recheck(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._some_to_check.wait(), 1.0)
            self._some_to_check.clear()
            if clock.monotonic() >= self._check_all_at:
                self._check_all_at = clock.monotonic() + RECHECK_SECONDS
                self._to_check |= self._readers.keys()
            while self._to_check:
                user_id = self._to_check.pop()
                await self._check(list(self._readers.get(user_id, ())))

    async def _check(self, readers: Iterable[Reader]) -> None:
        """Cut off those of a user who may not go on. One secret is verified once."""
        verdicts: dict[Credentials, Cut | None] = {}
        for reader in readers:
            credentials = reader.credentials
            if credentials not in verdicts:
                verdicts[credentials] = await self._verdict(credentials)
            if (why := verdicts[credentials]) is not None and not reader.is_closed:
                reader.cut(why)

    async def _verdict(self, credentials: Credentials) -> Cut | None:
        try:
            caller = await self.in_thread(self._verify, credentials.secret, credentials.is_key)
            for scope in credentials.scopes:
                caller.require(scope)
        except Unauthenticated:
            return Cut.UNAUTHENTICATED
        except Forbidden:
            return Cut.FORBIDDEN
        except Unavailable as error:  # asked again soon
            log_outage(logger, "caller_not_verified", error)
            self._check_all_at = min(self._check_all_at, clock.monotonic() + RECHECK_SECONDS_UNHEARD)
        except AgentFlowError:
            logger.exception("caller_not_verified")
        return None

    async def _sweep(self) -> None:
        """Once a second: heartbeats, slow readers, and keys and sessions whose time is over."""
        while True:
            await asyncio.sleep(1.0)
            now, moment = clock.monotonic(), clock.now()
            for reader in self.everybody:
                if reader.is_closed:
                    continue
                until = reader.credentials.caller.expires_at
                why = Cut.UNAUTHENTICATED if until is not None and until <= moment else reader.check(now)
                if why is not None:
                    reader.cut(why)
