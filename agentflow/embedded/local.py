"""How does one command get an AgentFlow of its own, for as long as it runs? For `agentflow demo` and `run --local`.

It has its own servers and its own data, in a folder that is thrown away, whatever the environment points at and
whatever else runs here.
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
    """Run servers, API and workers (no dashboard) for the length of the context; to be entered in the main thread.

    Args:
        workers: worker processes.
        concurrency: node executions at once in each.
        environment: further settings of the processes, as environment variables.
        output: where the processes' lines go; None: nowhere that a person would see.

    Yields:
        the API's address, and an API key.

    Raises:
        Unavailable: something does not start; nothing is left running.
    """
    with tempfile.TemporaryDirectory(prefix="agentflow-", ignore_cleanup_errors=True) as folder, _ending_on_sigterm():
        wanted = Wanted(
            data_dir=Path(folder) / "data",
            workers=workers,
            concurrency=concurrency,
            port=free_port(),  # any: the usual one is for the stack that people talk to
            flower=False,
            output=output,
            environment=environment or {},
            durable=False,
        )
        with Launch(wanted) as launch:
            key_file = launch.addresses.api_key_file
            assert key_file is not None, "a new database has no key but the one made here"
            yield launch.addresses.url, key_file.read_text().strip()


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """SIGTERM ends the context like Ctrl-C does: in order."""

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    former = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
