"""Runs random graphs while everything dies, and says whether anything was lost, doubled, out of order or stuck.

    make chaos MINUTES=30 SEED=7 WORKERS=4

A real PostgreSQL, a real Valkey, the API and worker processes are started; users submit graphs whose results are known;
every few seconds a child, a worker, the API, the broker or PostgreSQL is killed, frozen or emptied. No process may end
but by our hand. The exit code is 1 if anything was wrong; the logs stay then.
"""

import argparse
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random, SystemRandom

from servers import FAULTS, Installation
from users import Seen, User, approve_all

_USERS = 4
_LEFT = 240.0
"""Seconds in which everything must have ended after the last fault; stuck is what has not."""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description="Random graphs while everything dies.")
    parser.add_argument("--minutes", type=float, default=5.0, help="of faults (%(default)s)")
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(10**6), help="of graphs and faults")
    parser.add_argument("--workers", type=int, default=4, help="worker processes (%(default)s)")
    parser.add_argument("--pause", type=float, default=5.0, help="seconds between faults at most (%(default)s)")
    return parser.parse_args()


def _faults(rng: Random) -> Iterator[str]:
    """Each fault once, so that short rounds have most of them too; then any, by their weights."""
    names = list(FAULTS)
    yield from rng.sample(names, len(names))
    weights = [weight for _, weight in FAULTS.values()]
    while True:
        yield from rng.choices(names, weights)


def _hurt(installation: Installation, rng: Random, seconds: float, pause: float) -> Counter[str]:
    """Faults for so long; how often each."""
    done: Counter[str] = Counter()
    faults = _faults(rng)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(rng.uniform(0.2, pause))
        installation.look()
        name = next(faults)
        FAULTS[name][0](installation, rng)
        done[name] += 1
        print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
    return done


def _wait_for(users: list[threading.Thread], installation: Installation) -> None:
    end = time.monotonic() + _LEFT
    while any(user.is_alive() for user in users) and time.monotonic() < end:
        installation.look()
        time.sleep(0.2)


def _chaos(options: argparse.Namespace, folder: Path) -> bool:
    """Whether all was well."""
    rng = Random(options.seed)
    installation = Installation(folder, options.workers, window=rng.choice([3, 10, 40]))
    seen, no_more, done = Seen(), threading.Event(), threading.Event()
    users = [
        threading.Thread(target=User(number, options.seed, installation.fleet, seen, no_more).go, daemon=True)
        for number in range(_USERS)
    ]
    reviewer = threading.Thread(target=approve_all, args=(installation.fleet, options.seed, seen, done), daemon=True)
    try:
        for thread in (*users, reviewer):
            thread.start()
        faults = _hurt(installation, rng, options.minutes * 60, options.pause)
        no_more.set()
        _wait_for(users, installation)
        done.set()
        reviewer.join(10)
    finally:
        no_more.set()
        done.set()
        installation.stop()
    return _report(faults, seen, installation.ended_by_themselves)


def _report(faults: Counter[str], seen: Seen, ended: list[str]) -> bool:
    print(f"\n{faults.total()} faults: " + ", ".join(f"{name} × {times}" for name, times in faults.most_common()))
    print(f"{seen.counts.total()} runs: " + ", ".join(f"{times} {what}" for what, times in seen.counts.most_common()))
    stuck = [f"run {run_id} ({what}) has not ended" for run_id, what in seen.pending.items()]
    wrong = [*seen.wrong, *stuck, *ended]
    for line in wrong:
        print(f"WRONG: {line}")
    print(
        "Something was wrong."
        if wrong
        else "Nothing was lost, doubled, out of order or stuck; no process ended by itself."
    )
    return not wrong and seen.counts.total() > 0


def main() -> None:
    options = _options()
    folder = Path(tempfile.mkdtemp(prefix="agentflow-chaos-"))
    print(f"seed {options.seed}, {options.minutes:g} minutes, {options.workers} workers; logs in {folder}", flush=True)
    well = _chaos(options, folder)
    if well:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(not well)


main()
