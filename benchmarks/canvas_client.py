"""Submits work to plain Celery from a separate process, which is controlled line by line.

The benchmark's own process cannot do this: it imports AgentFlow, which replaces kombu's Redis transport, and plain
Celery should be measured unmodified. `CanvasClient` starts `python -m benchmarks.canvas_client`, which must not import
AgentFlow, and which ends when its input does.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Final

_FAILED: Final = "failed: "


class CanvasClient:
    """Controls the submitting process. Each method returns the seconds that the work took."""

    def __init__(self, process: "subprocess.Popen[str]", requests: IO[str], replies: IO[str]) -> None:
        self.pid = process.pid
        self._requests = requests
        self._replies = replies

    def run_chains(self, count: int, length: int) -> float:
        """Run `count` chains of `length` steps at once."""
        return self._ask("chains", count, length)

    def run_fan(self, width: int) -> float:
        """Run a chord of `width` steps."""
        return self._ask("fan", width)

    def run_noops(self, count: int) -> float:
        """Run `count` no-op tasks."""
        return self._ask("noops", count)

    def _ask(self, *request: str | int) -> float:
        print(*request, file=self._requests, flush=True)
        reply = self._replies.readline().strip()
        if not reply or reply.startswith(_FAILED):
            raise RuntimeError(f"plain Celery, {' '.join(map(str, request))}: {reply or 'its client ended'}")
        return float(reply)


@contextmanager
def canvas_client(environment: Mapping[str, str]) -> Iterator[CanvasClient]:
    """Start the process, and stop it. `environment` has the addresses of broker and result backend."""
    command = [sys.executable, "-m", "benchmarks.canvas_client"]
    pipe = subprocess.PIPE
    with subprocess.Popen(  # in its own session: Ctrl-C must reach only us
        command, stdin=pipe, stdout=pipe, text=True, env=dict(environment), start_new_session=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield CanvasClient(process, process.stdin, process.stdout)


def main() -> None:
    """Execute each line of the input, and answer with the seconds that it took."""
    from benchmarks import canvas

    work: dict[str, Callable[..., float]] = {
        "chains": canvas.run_chains,
        "fan": canvas.run_fan,
        "noops": canvas.run_noops,
    }
    for line in sys.stdin:
        name, *numbers = line.split()
        try:
            reply = str(work[name](*map(int, numbers)))
        except Exception as error:  # any error of Celery: the benchmark reports it and ends
            reply = f"{_FAILED}{error!r}".replace("\n", " ")
        print(reply, flush=True)


if __name__ == "__main__":
    main()
