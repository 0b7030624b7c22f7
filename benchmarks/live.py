"""Measures live updates: how long after a settle its event is seen, and what one process needs, with many connections.

    python -m benchmarks --only live

Two ways to watch, each with `CONNECTIONS` connections to one live process: each to a run of its own, of which some go
on at any time; and all to one run that takes a step now and then. The delay is from the time in a `settled` event,
which PostgreSQL sets before the commit, until the bytes are read from the client's socket. All clients are in this
process, on the same machine: what they need is part of the delay. They look into what they got afterwards only.
"""

import asyncio
import base64
import json
import os
import re
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx
import psycopg
import uvloop

from agentflow.accounts.keys import create as create_key
from agentflow.blocks.registry import by_name
from agentflow.embedded.child import Child, start
from agentflow.embedded.private import free_port
from agentflow.services import graphs as stored
from agentflow.services import reviews, submissions
from agentflow.services.transaction import transaction
from benchmarks.fleet import Layout, fleet
from benchmarks.ground import Ground
from benchmarks.report import Part, Table, percentile, say

CONNECTIONS: Final = 5_000

_LAYOUT: Final = Layout(1, 2)
_RATE: Final = 20.0  # runs that go on, a second
_STEPS_AT_MOST: Final = 1_000  # of the one run
_PAUSE: Final = 0.25  # seconds between two steps of the one run
_FILES: Final = CONNECTIONS + 1_000
_START_SECONDS: Final = 30.0
_STOPS: Final = ((signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0))
_BLOCKS: Final = Path(__file__).resolve().parent.parent / "tests/scenarios/blocks"  # has a block that only sleeps
_SLEEP: Final = "5ce0a001-0000-4000-8000-000000000001"
_WAIT: Final = "WaitForEvent"
_FRAME_KINDS: Final = re.compile(rb'"kind":"(\w+)","at":"([^"]+)"')


class _Client(asyncio.Protocol):
    """One connection: it keeps what comes, with the time."""

    def __init__(self, port: int, key: str, run_id: UUID) -> None:
        self.came: list[tuple[float, bytes]] = []
        self.subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._port, self._key, self._run_id = port, key, run_id
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        nonce = base64.b64encode(os.urandom(16)).decode()
        self._transport.write(
            f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {nonce}\r\nAuthorization: Bearer {self._key}\r\n"
            "\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        if self.subscribed.done():
            self.came.append((time.time(), data))
            if len(data) == 6:
                self._send(data[2:], 0x8A)
        elif b'"welcome"' in data:
            asked = {"type": "subscribe", "channel": f"run:{self._run_id}"}
            self._send(json.dumps(asked).encode(), 0x81)
        elif b'"subscribed"' in data:
            self.subscribed.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.subscribed.done():
            self.subscribed.set_exception(error or ConnectionError("the connection was closed"))

    def _send(self, payload: bytes, head: int) -> None:
        mask = b"\0\0\0\0"  # which changes nothing
        length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
        self._transport.write(bytes([head]) + length + mask + payload)

    def close(self) -> None:
        self._transport.abort()

    def delays(self, since: float) -> list[float]:
        """Milliseconds from each settle after `since` until it was seen."""
        found = []
        for seen, data in self.came:
            for kind, at in _FRAME_KINDS.findall(data):
                settled = datetime.fromisoformat(at.decode()).timestamp()
                if kind == b"settled" and settled > since:
                    found.append((seen - settled) * 1000)
        return found


@contextmanager
def _live(there: Ground, port: int) -> Iterator[Child]:
    """A live process, with all connections for one owner."""
    more = {"AGENTFLOW_LIVE_PORT": str(port), "AGENTFLOW_MAX_LIVE_CONNECTIONS": str(2 * _FILES)}
    command: list[str | Path] = [sys.executable, "-m", "agentflow.live"]
    environment = {**there.environment, **more}
    child = start("live", command, _STOPS, log=there.folder / "live.log", environment=environment, folder=there.folder)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with suppress(httpx.TransportError):
                if httpx.get(f"http://127.0.0.1:{port}/healthz").is_success:
                    break
            if time.monotonic() > deadline or child.ended() is not None:
                raise RuntimeError("the live process does not answer")
            time.sleep(0.05)
        yield child
    finally:
        child.stop()


@contextmanager
def watching(there: Ground) -> Iterator[None]:
    """A live process, and a client that watches all runs of the owner, and throws away what it gets."""
    port = free_port()
    with transaction() as session:
        key = create_key(session, there.owner_id, "watcher")[0]
    with _live(there, port), socket.create_connection(("127.0.0.1", port)) as connection:
        request = f"GET /events?channel=runs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n\r\n"
        connection.sendall(request.encode())
        done = threading.Event()
        reader = threading.Thread(target=_throw_away, args=(connection, done), daemon=True)
        reader.start()
        yield
        done.set()
        reader.join()


def _throw_away(connection: socket.socket, done: threading.Event) -> None:
    """Read what comes, as cheaply as can be: a real client is on another machine."""
    connection.settimeout(0.5)
    while not done.is_set():
        with suppress(TimeoutError):
            if not connection.recv(1024 * 1024):
                raise RuntimeError("the stream has ended")


def _node(node_id: str, block_id: str, **defaults: Any) -> dict[str, Any]:
    return {"id": node_id, "block_id": block_id, "input_default": defaults}


def _link(source: str, sink: str) -> dict[str, Any]:
    (source_id, source_name), (sink_id, sink_name) = source.split(":"), sink.split(":")
    return {"source_id": source_id, "source_name": source_name, "sink_id": sink_id, "sink_name": sink_name}


def _waiting() -> dict[str, Any]:
    """A graph that waits for an event, and takes two steps then."""
    nodes = [
        _node("wait", by_name(_WAIT).id, name="go"),
        _node("step", by_name("StoreValue").id),
        _node("out", by_name("AgentOutput").id, name="result"),
    ]
    return {
        "name": "waits",
        "nodes": nodes,
        "links": [_link("wait:payload", "step:input"), _link("step:output", "out:value")],
    }


def _stepping(steps: int) -> dict[str, Any]:
    """A graph that takes a step now and then."""
    nodes = [_node(f"s{number}", _SLEEP, seconds=_PAUSE) for number in range(steps)]
    nodes[0]["input_default"]["value"] = 1
    links = [_link(f"s{number - 1}:value", f"s{number}:value") for number in range(1, steps)]
    return {"name": "steps", "nodes": nodes, "links": links}


def _memory(pid: int) -> float:
    """MiB that the process has for itself or shares (PSS)."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)[1]) / 1024  # type: ignore[index]


def _cpu(pid: int) -> float:
    """Seconds of CPU that the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _connect(port: int, key: str, runs: Sequence[UUID]) -> list[_Client]:
    loop = asyncio.get_running_loop()
    clients: list[_Client] = []
    for start_ in range(0, len(runs), 200):
        made = [_Client(port, key, run_id) for run_id in runs[start_ : start_ + 200]]
        for client in made:
            await loop.create_connection(lambda client=client: client, "127.0.0.1", port)
        await asyncio.gather(*(client.subscribed for client in made))
        clients += made
    return clients


async def _watch(
    live: Child, port: int, key: str, runs: Sequence[UUID], act: Callable[[], None]
) -> tuple[list[float], dict[str, float]]:
    """Connect to these runs, one connection each; let `act` happen, in a thread. The delays, and what live needed."""
    before = _memory(live.pid)
    began = time.monotonic()
    clients = await _connect(port, key, runs)
    connected = time.monotonic() - began
    await asyncio.sleep(5)
    memory, cpu, since, moment = _memory(live.pid), _cpu(live.pid), time.time(), time.monotonic()
    await asyncio.sleep(5)
    idle = (_cpu(live.pid) - cpu) / (time.monotonic() - moment)
    cpu, since, moment = _cpu(live.pid), time.time(), time.monotonic()
    await asyncio.to_thread(act)
    await asyncio.sleep(1)
    busy = (_cpu(live.pid) - cpu) / (time.monotonic() - moment)
    delays = [delay for client in clients for delay in client.delays(since)]
    for client in clients:
        client.close()
    await asyncio.sleep(1)
    return delays, {
        "connections": len(clients),
        "connecting_seconds": connected,
        "kib_a_connection": (memory - before) * 1024 / len(clients),
        "mib": memory,
        "cpu_idle": idle,
        "cpu": busy,
    }


def measure(ground: Ground, *, quick: bool) -> Part:
    """Measure both ways to watch."""
    count = 500 if quick else CONNECTIONS
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_FILES, _hard_limit()), _hard_limit()))
    sys.path.append(str(_BLOCKS))
    path = f"{ground.environment['PYTHONPATH']}:{_BLOCKS}"
    there = replace(ground, environment={**ground.environment, "PYTHONPATH": path})
    with transaction() as session:
        key = create_key(session, there.owner_id, "live")[0]
        waiting = stored.create(session, there.owner_id, _waiting()).id
        stepping = stored.create(session, there.owner_id, _stepping(_STEPS_AT_MOST)).id
    port = free_port()
    part = Part("live")
    rows = []
    with _live(there, port) as live, fleet(there, "agentflow", there.stack.broker_url, _LAYOUT):
        say(f"starting {count} runs that wait")
        runs = [_submit(there, waiting) for _ in range(count)]
        _await_all_waiting(there)
        one = _submit(there, stepping)
        ways: list[tuple[str, Sequence[UUID], Callable[[], None]]] = [
            ("each its own run", runs, lambda: _go_on(there, runs[: 100 if quick else 400])),
            ("all one run", [one] * count, lambda: time.sleep(5 if quick else 20)),
        ]
        for way, watched, act in ways:
            delays, needed = uvloop.run(_watch(live, port, key, watched, act))
            if not delays:
                raise RuntimeError("nothing was seen")
            median_, last = percentile(delays, 0.5), percentile(delays, 0.99)
            part.data[way] = {**needed, "seen": len(delays), "p50_ms": median_, "p99_ms": last}
            say(f"{way}: p50 {median_:.1f} ms, p99 {last:.1f} ms")
            numbers = ("mib", ".0f"), ("kib_a_connection", ".1f"), ("connecting_seconds", ".1f"), ("cpu_idle", ".2f")
            if watched is not runs:  # it goes on all the time
                needed["cpu_idle"] = float("nan")
            row = [way, f"{count:,}", f"{len(delays):,}", f"{median_:.1f}", f"{last:.1f}"]
            rows.append([*row, *(format(needed[name], how) for name, how in (*numbers, ("cpu", ".2f")))])
    header = ("watched", "connections", "settles seen", "p50 ms", "p99 ms", "MiB", "KiB each", "s", "CPU idle", "CPU")
    note = (
        f"One live process; clients, worker ({_LAYOUT}), PostgreSQL and Valkey beside it. {_RATE:.0f} runs a second go "
        f"on, or one takes a step each {_PAUSE:g} s. s: until all were connected. CPU: cores that live uses while "
        "nothing is told, and while that happens."
    )
    part.tables.append(Table("Live updates: from a settle until a client has it", header, rows, [note]))
    return part


def _await_all_waiting(there: Ground) -> None:
    deadline = time.monotonic() + _START_SECONDS * 4
    with closing(psycopg.connect(there.database_url, autocommit=True)) as connection:
        while connection.execute("SELECT count(*) FROM runs WHERE status <> 'WAITING'").fetchone() != (0,):
            if time.monotonic() > deadline:
                raise RuntimeError("the runs do not begin to wait")
            time.sleep(0.2)


def _submit(there: Ground, graph_id: UUID) -> UUID:
    with transaction() as session:
        return submissions.submit(session, there.owner_id, submissions.Stored(graph_id), submissions.Wanted()).run_id


def _go_on(there: Ground, runs: Sequence[UUID]) -> None:
    for run_id in runs:
        began = time.monotonic()
        with transaction() as session:
            reviews.signal(session, there.owner_id, run_id, "go", 1)
        time.sleep(max(1 / _RATE - (time.monotonic() - began), 0))


def _hard_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]
