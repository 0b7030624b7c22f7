"""Runs a temporary AgentFlow for the duration of one command, such as `agentflow run --local`.

It has its own servers and data, in a temporary folder, whatever addresses the environment names and whatever else runs
here.
"""

import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

from agentflow.embedded.launch import Launch, Wanted
from agentflow.embedded.private import free_port


@contextmanager
def local_stack(
    *,
    workers: int = 2,
    concurrency: int = 2,
    environment: Mapping[str, str] | None = None,
    output: TextIO | None = None,
) -> Iterator[tuple[str, str]]:
    """Run servers, API and workers (no dashboard) while the context is open. For the main thread only.

    Args:
        workers: the number of worker processes.
        concurrency: node executions at once in each.
        environment: further environment variables of the processes.
        output: where to print the processes' lines; None: nowhere.

    Yields:
        the API's address, and an API key.

    Raises:
        Unavailable: something fails to start; nothing is left running.
    """
    with tempfile.TemporaryDirectory(prefix="agentflow-", ignore_cleanup_errors=True) as folder, _ending_on_sigterm():
        wanted = Wanted(
            data_dir=Path(folder) / "data",
            workers=workers,
            concurrency=concurrency,
            port=free_port(),  # the usual port is left to `agentflow up`
            flower=False,
            output=output,
            environment=environment or {},
            durable=False,
        )
        with Launch(wanted) as launch:
            key_file = launch.addresses.api_key_file
            assert key_file is not None, "the start made a key for the new database"
            yield launch.addresses.url, key_file.read_text().strip()


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the context in order, as Ctrl-C does."""

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
