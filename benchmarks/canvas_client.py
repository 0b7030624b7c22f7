"""Who submits to plain Celery? A process of its own, told what to do line by line.

Not the benchmark's own process: that one submits to AgentFlow, which puts its own Redis transport in kombu's place, and
plain Celery shall be measured as it comes. `python -m benchmarks.canvas_client` is the other end of `CanvasClient`; it
imports nothing of AgentFlow, and ends when its input does.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Final

_FAILED: Final = "failed: "


class CanvasClient:
    """The submitting process, from outside. Each method returns the seconds that the work took."""

    def __init__(self, process: "subprocess.Popen[str]", requests: IO[str], replies: IO[str]) -> None:
        self.pid = process.pid
        self._requests = requests
        self._replies = replies

    def run_chains(self, count: int, length: int) -> float:
        """`count` chains of `length` steps at once."""
        return self._ask("chains", count, length)

    def run_fan(self, width: int) -> float:
        """A chord of `width` steps."""
        return self._ask("fan", width)

    def run_noops(self, count: int) -> float:
        """`count` tasks that do nothing and keep no state."""
        return self._ask("noops", count)

    def _ask(self, *request: str | int) -> float:
        print(*request, file=self._requests, flush=True)
        reply = self._replies.readline().strip()
        if not reply or reply.startswith(_FAILED):
            raise RuntimeError(f"plain Celery, {' '.join(map(str, request))}: {reply or 'its client ended'}")
        return float(reply)


@contextmanager
def canvas_client(environment: Mapping[str, str]) -> Iterator[CanvasClient]:
    """Start it, and end it. `environment` says where broker and result backend are."""
    command = [sys.executable, "-m", "benchmarks.canvas_client"]
    pipe = subprocess.PIPE
    with subprocess.Popen(  # in a session of its own: Ctrl-C is for us, who end it
        command, stdin=pipe, stdout=pipe, text=True, env=dict(environment), start_new_session=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield CanvasClient(process, process.stdin, process.stdout)


def main() -> None:
    """Carry out what the lines of the input ask for, and answer each with the seconds that it took."""
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
        except Exception as error:  # whatever Celery raises: the benchmark shall say it and end
            reply = f"{_FAILED}{error!r}".replace("\n", " ")
        print(reply, flush=True)


if __name__ == "__main__":
    main()
