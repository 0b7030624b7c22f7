"""Wakes those who watch a run, once something in it was committed; costs next to nothing if nobody watches.

Live processes (`agentflow/live`) read events from PostgreSQL. So that they need not ask all the time, whoever wrote
some says so through Redis: `wake`. A wake-up carries ids only and may be lost; live processes also look now and then.

A worker does not wake for runs that nobody watches. Its main process hears from the live processes what is watched
(`follow_watchers`), and keeps that in a bitmap which its children share: for them it is a look at a byte. Several ids
may share a bit; then one more wake-up is sent than is needed. Other processes, which write seldom, always wake.

Who watches many runs (those of an owner, or of a graph) is woken at most every `AWAKE_SECONDS` by a worker: its
children keep in the same memory when one did.

A wake-up is a PUBLISH on a connection that gets no replies (CLIENT REPLY OFF), so nobody waits for the broker.
"""

import json
import logging
import mmap
import os
import struct
from collections.abc import Iterable
from functools import cache
from typing import Any, Final
from uuid import UUID

import redis

from agentflow import forking
from agentflow.clock import monotonic
from agentflow.dispatch import notices
from agentflow.logs import log_outage
from agentflow.settings import settings

logger = logging.getLogger(__name__)

WAKE_UPS: Final = "agentflow.live.wake"
"""The Redis channel of wake-ups: `<run>`, or `<run> <owner> <graph>` where the writer knows them."""

WATCHED: Final = "watched"
"""The notices in which a live process says what is watched there: see `announcement`."""

ASKED: Final = "watched?"
"""The notice with which a worker asks them to say all of it."""

ANNOUNCE_SECONDS: Final = 5.0
"""A live process says all that is watched there this often."""

_GOOD_FOR: Final = 4 * ANNOUNCE_SECONDS  # afterwards it counts as gone

AWAKE_SECONDS: Final = 0.05
"""Who was woken for a run looks again so long afterwards: what follows a wake-up at once needs none of its own."""

_SLOTS: Final = 2**19  # bits: 5,000 watched ids cover 1 %, and the bitmap takes 64 KiB a worker
_MASK: Final = _SLOTS - 1
_HEAD: Final = 16  # bytes before the bits: whether anything is watched, and until when that holds (offset 8)
_BITS: Final = _HEAD + _SLOTS // 8  # where the bits end
_GRAPHS: Final = 1024  # … behind them, for so many graphs: which, and when those who watch many runs were woken for it
_GRAPH: Final = struct.Struct("Qd")

_TIMEOUT: Final = 1.0  # seconds to connect, and to hand a wake-up to the network
_AWAY: Final = 1.0  # seconds without another try after a failure, as in publish.py


def slot(watched: UUID) -> int:
    """The number of the bit that stands for an id of a run, an owner or a graph."""
    return watched.int & _MASK


def announcement(by: str, slots: Iterable[int], *, whole: bool) -> str:
    """The text in which the live process `by` says what is watched there: all of it, or (not `whole`) more."""
    return json.dumps({"by": by, "slots": list(slots), "whole": whole})


class Watched:
    """What is watched, as a worker knows it: written by its main process, read by its children. And when they woke."""

    def __init__(self) -> None:
        # Anonymous and shared: a parent and its children see what the others write.
        self._memory = mmap.mmap(-1, _BITS + _GRAPHS * _GRAPH.size)
        self._said: dict[str, tuple[set[int], float]] = {}  # live process → what it said, and until when that is good
        self._listener = notices.Listener(WATCHED, self)
        self.follows = False

    def follow(self) -> None:
        """Keep up with the live processes from now on; in a worker's main process."""
        self.follows = True
        self._listener.ensure()

    def has(self, *ids: UUID) -> bool:
        """Whether one of these ids is (or may be) watched."""
        memory = self._memory
        if not memory[0] or monotonic() > struct.unpack_from("d", memory, 8)[0]:
            return False
        for one in ids:
            bit = one.int & _MASK
            if memory[_HEAD + (bit >> 3)] & (1 << (bit & 7)):
                return True
        return False

    def sleeps(self, graph_id: UUID) -> bool:
        """Whether those who watch many runs may sleep; then they count as woken now, for a run of this graph.

        Else they look again soon by themselves. Another process may write at the same time, which wakes twice at worst.
        """
        now, number = monotonic(), graph_id.int
        place = _BITS + number % _GRAPHS * _GRAPH.size
        which, woken_at = _GRAPH.unpack_from(self._memory, place)
        if which == number >> 64 and 0 <= now - woken_at < AWAKE_SECONDS:
            return False
        _GRAPH.pack_into(self._memory, place, number >> 64, now)
        return True

    @property
    def anything(self) -> bool:
        """Whether anything is watched."""
        return bool(self._memory[0]) and monotonic() <= struct.unpack_from("d", self._memory, 8)[0]

    def heard(self, text: str) -> None:
        """Take note of an announcement."""
        told = json.loads(text)
        before, _ = self._said.get(told["by"], (set(), 0.0))
        slots = {number & _MASK for number in told["slots"]}
        self._said[told["by"]] = (slots if told["whole"] else before | slots, monotonic() + _GOOD_FOR)
        self._write()

    def deaf(self) -> None:
        """Ask for what was missed. Until it comes, what was known counts."""
        notices.tell(ASKED, "")

    def _write(self) -> None:
        now = monotonic()
        self._said = {by: said for by, said in self._said.items() if said[1] > now}
        bits = bytearray(_SLOTS // 8)
        for slots, _ in self._said.values():
            for number in slots:
                bits[number >> 3] |= 1 << (number & 7)
        self._memory[_HEAD:_BITS] = bytes(bits)  # a bit that was set and stays set is never seen unset
        struct.pack_into("d", self._memory, 8, max((until for _, until in self._said.values()), default=0.0))
        self._memory[0] = any(bits)


class Bell:
    """The connection of a process over which wake-ups are sent."""

    def __init__(self, broker_url: str) -> None:
        self._url = broker_url
        self._lock = forking.lock()
        self._connection: Any = None
        self._pid = 0
        self._away_until = 0.0

    def ring(self, text: str) -> None:
        """Send a wake-up. It may be lost, and is where the broker is away or no Redis."""
        with self._lock:
            if not self._url.startswith("redis") or monotonic() < self._away_until:
                return
            try:
                self._opened().send_packed_command([_command(text)], check_health=False)
            except (OSError, redis.RedisError) as error:
                log_outage(logger, "wake_up_not_sent", error)
                self._connection = None
                self._away_until = monotonic() + _AWAY

    def _opened(self) -> Any:
        if self._connection is None or self._pid != os.getpid():
            pool = redis.ConnectionPool.from_url(self._url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT)
            connection: Any = pool.make_connection()
            connection.connect()
            connection.send_command("CLIENT", "REPLY", "OFF", check_health=False)
            self._connection, self._pid = connection, os.getpid()
        return self._connection


def _command(text: str) -> bytes:
    return b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(_CHANNEL), _CHANNEL, len(text), text.encode())


_CHANNEL: Final = WAKE_UPS.encode()
_watched: Final = Watched()


@cache
def bell() -> Bell:
    """The bell of this process."""
    return Bell(settings().broker())


def follow_watchers() -> None:
    """Wake only for what is watched, from now on; called in a worker's main process."""
    _watched.follow()


def expect_watchers() -> None:
    """Let this process and its children wake only for what they know to be watched, which is nothing yet."""
    _watched.follows = True


def wake(run_id: UUID, owner_id: UUID | None = None, graph_id: UUID | None = None) -> None:
    """Wake those who watch a run, its owner's runs, or its graph's. Call it after the commit. It raises nothing.

    Args:
        run_id: the run.
        owner_id: whose it is; None: not known here.
        graph_id: its graph; needed with `owner_id`.
    """
    if owner_id is None or graph_id is None:
        if not _watched.follows or _watched.anything:
            bell().ring(str(run_id))
    elif (
        not _watched.follows or _watched.has(run_id) or (_watched.has(owner_id, graph_id) and _watched.sleeps(graph_id))
    ):
        bell().ring(f"{run_id} {owner_id} {graph_id}")
