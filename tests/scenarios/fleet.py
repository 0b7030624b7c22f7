"""The processes of one installation, and graphs to run on it: what the scenarios are written with."""

import contextlib
import os
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
from sqlalchemy.orm import Session

from agentflow.accounts.keys import ensure_first_key
from agentflow.blocks import registry
from agentflow.client.client import Client
from agentflow.embedded.private import free_port
from agentflow.schemas.runs import RunView
from agentflow.storage.connect import engine

BLOCKS = Path(__file__).parent / "blocks"
DEADLINE = 40.0  # seconds until a condition must hold; far more than it takes

TEST_BLOCKS = {
    name: f"5ce0a001-0000-4000-8000-00000000000{number}"
    for number, name in enumerate(
        [
            "TestSleep",
            "TestAsyncSleep",
            "TestTicks",
            "TestFail",
            "TestDie",
            "TestStubborn",
            "TestOdd",
            "TestLethal",
            "TestPaid",
        ],
        start=1,
    )
}

TEST_BLOCKS["TestPaidWait"] = "5ce0a001-0000-4000-8000-0000000000e2"
TEST_BLOCKS["TestAlone"] = "5ce0a001-0000-4000-8000-0000000000e1"
TEST_BLOCKS["TestToken"] = "5ce0a001-0000-4000-8000-0000000000f2"
TEST_BLOCKS["TestLeak"] = "5ce0a001-0000-4000-8000-0000000000f3"

LEASE_SECONDS = 4
"""Short, so that a scenario with a dead worker does not take long."""


def until(ask: Callable[[], Any], what: str, seconds: float = DEADLINE) -> Any:
    """Ask until the answer is true; it is the result."""
    end = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < end, f"did not happen within {seconds} s: {what}"
        time.sleep(0.02)
    return answer


def node(node_id: str, block: str, settings: Mapping[str, Any] | None = None, /, **defaults: Any) -> dict[str, Any]:
    """A node of a graph document; `block` by name."""
    block_id = TEST_BLOCKS.get(block) or registry.by_name(block).id
    made: dict[str, Any] = {"id": node_id, "block_id": block_id, "input_default": defaults}
    return {**made, "settings": dict(settings)} if settings else made


def link(source: str, sink: str, *, static: bool = False) -> dict[str, Any]:
    """A link of a graph document, from `node:pin` to `node:pin`."""
    (source_id, source_name), (sink_id, sink_name) = source.split(":"), sink.split(":")
    return {
        "id": str(uuid4()),
        "source_id": source_id,
        "sink_id": sink_id,
        "source_name": source_name,
        "sink_name": sink_name,
        "is_static": static,
    }


def graph(nodes: list[dict[str, Any]], links: list[dict[str, Any]], **settings: Any) -> dict[str, Any]:
    """A graph document."""
    return {"name": "scenario", "nodes": nodes, "links": links, **({"settings": settings} if settings else {})}


class Fleet:
    """The processes of one installation."""

    def __init__(
        self,
        database_url: str,
        broker_url: str,
        logs: Path,
        *,
        children: int = 1,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`children`: of each worker process. `environment`: further variables of all processes."""
        self.database_url, self.broker_url, self._logs = database_url, broker_url, logs
        self._children, self._environment = children, dict(environment or {})
        with Session(engine(database_url)) as session, session.begin():
            key = ensure_first_key(session)
        engine(database_url).dispose()
        assert key is not None
        self.port = free_port()
        self.key = key
        self.url = f"http://127.0.0.1:{self.port}"
        self._web: subprocess.Popen[bytes] | None = None
        self.live_port = free_port()
        self.live_url = f"http://127.0.0.1:{self.live_port}"
        self._live: subprocess.Popen[bytes] | None = None
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self._numbers = count(1)
        self.client = Client(self.url, key)

    def _start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        scripts = sysconfig.get_path("scripts")
        environment = {
            **os.environ,
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(BLOCKS),
            "AGENTFLOW_DATABASE_URL": self.database_url,
            "AGENTFLOW_BROKER_URL": self.broker_url,
            "AGENTFLOW_LEASE_SECONDS": str(LEASE_SECONDS),
            "AGENTFLOW_LIVE_PORT": str(self.live_port),
            "AGENTFLOW_LIVE_URL": self.live_url,
            **self._environment,
        }
        with (self._logs / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [f"{scripts}/{command[0]}", *command[1:]],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self._logs,
            )

    def start_web(self) -> None:
        bind = f"127.0.0.1:{self.port}"
        self._web = self._start(
            "web", "gunicorn", "-c", "python:agentflow.api.gunicorn", "--bind", bind, "--no-control-socket",
            "agentflow.api.wsgi:app",
        )  # fmt: skip

        def answers() -> bool:
            try:
                return httpx.get(f"{self.url}/readyz").status_code == 200
            except httpx.TransportError:
                return False

        until(answers, "the API answers")

    def start_live(self) -> None:
        """Start a live process, and wait until it answers."""
        self._live = self._start("live", "python", "-m", "agentflow.live")

        def answers() -> bool:
            assert self._live is not None
            assert self._live.poll() is None, (self._logs / "live.log").read_text()[-2000:]
            try:
                return httpx.get(f"{self.live_url}/healthz").status_code == 200
            except httpx.TransportError:
                return False

        until(answers, "live answers")

    def ensure_live(self) -> None:
        if self._live is None or self._live.poll() is not None:
            self.start_live()

    def kill_live(self) -> None:
        """Kill the live process."""
        if self._live is not None:
            self._live.kill()
            self._live.wait(timeout=10)
            self._live = None

    @property
    def live_pid(self) -> int:
        assert self._live is not None
        return self._live.pid

    def start_worker(self, *options: str) -> str:
        """Start one worker process, with further options of the command, and wait until it consumes; its name."""
        name = f"w{next(self._numbers)}"
        self.workers[name] = self._start(
            name, "celery", "-A", "agentflow", "worker", "-c", str(self._children), "-n", f"{name}@%h", "-l", "INFO",
            "--without-gossip", "--without-mingle", *options,
        )  # fmt: skip
        until(lambda: b"ready." in (self._logs / f"{name}.log").read_bytes(), f"{name} is ready")
        return name

    def ensure_workers(self, count: int) -> None:
        for name in [name for name, process in self.workers.items() if process.poll() is not None]:
            del self.workers[name]
        while len(self.workers) < count:
            self.start_worker()

    def have_workers(self, count: int) -> None:
        """Exactly so many, alive: what a test started beyond is stopped."""
        for name in list(self.workers)[count:]:
            process = self.workers.pop(name)
            process.terminate()
            process.wait(timeout=30)
        self.ensure_workers(count)

    @contextlib.contextmanager
    def beat(self) -> Iterator[Path]:
        """A `celery beat` beside the workers, as somebody may run it, until the end; its log."""
        log = self._logs / "beat.log"
        process = self._start(
            "beat", "celery", "-A", "agentflow", "beat", "-s", "beat", "--max-interval", "1", "-l", "DEBUG"
        )
        try:
            until(lambda: log.exists() and b"beat: Ticking" in log.read_bytes(), "beat ticks")
            yield log
            assert process.poll() is None, log.read_text()[-2000:]
        finally:
            process.terminate()
            process.wait(timeout=15)

    def kill(self, name: str) -> None:
        """Kill a worker with all its children, as when its host dies."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.workers[name].pid, signal.SIGKILL)
        self.workers.pop(name).wait(timeout=10)

    def kill_all(self) -> None:
        """Kill the API and all workers, as when the power goes."""
        for name in list(self.workers):
            self.kill(name)
        self.kill_web()

    def web_ended(self) -> int | None:
        """The API's exit code; None while it runs."""
        return self._web.poll() if self._web is not None else None

    def kill_web(self) -> None:
        """Kill the API with all its processes."""
        if self._web is not None:
            os.killpg(self._web.pid, signal.SIGKILL)
            self._web.wait(timeout=10)
            self._web = None

    def stop(self) -> None:
        self.client.close()
        everything = [*self.workers.values(), *(one for one in (self._web, self._live) if one)]
        for process in everything:
            process.terminate()
        for process in everything:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=15)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=10)

    def submit(self, document: Mapping[str, Any], inputs: Mapping[str, Any] | None = None, **more: Any) -> UUID:
        return self.client.submit_inline(document, inputs, **more).id

    def ended(self, run_id: UUID, seconds: float = DEADLINE) -> RunView:
        """The run, once it has ended."""

        def ask() -> RunView | None:
            run = self.client.get_run(run_id)
            return run if run.ended else None

        return until(ask, f"run {run_id} ends", seconds)

    def run(self, document: Mapping[str, Any], inputs: Mapping[str, Any] | None = None, **more: Any) -> RunView:
        return self.ended(self.submit(document, inputs, **more))

    def statuses(self, run_id: UUID) -> list[tuple[str, int, str]]:
        return [(item.node_id, item.index, item.status.value) for item in self.client.nodes(run_id)]


def noted(log: Path) -> list[tuple[str, int, int, int]]:
    """What blocks noted, in the order of time."""
    if not log.exists():
        return []
    return [
        (name, int(idx), int(attempt), int(pid))
        for name, idx, attempt, pid in map(str.split, log.read_text().splitlines())
    ]
