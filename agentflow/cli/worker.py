"""Implements `agentflow worker`: run a worker for the servers that the environment or `agentflow up` names."""

import os
import sys

import click

from agentflow.settings import settings

_DEFAULTS = ("--loglevel", "INFO", "--without-gossip", "--without-mingle")
"""As in the Procfile. Gossip and mingle share revoked tasks between workers, and AgentFlow does not use those."""


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def worker(arguments: tuple[str, ...]) -> None:
    """Run a worker: `celery -A agentflow worker` with AgentFlow's defaults, then your ARGUMENTS (see --help)."""
    if "--help" not in arguments:
        # Report missing addresses in one line; Celery would print fifty.
        settings().broker()
        settings().database()
    command = [sys.executable, "-m", "celery", "-A", "agentflow", "worker", *_DEFAULTS, *arguments]
    sys.stdout.flush()
    os.execv(sys.executable, command)  # noqa: S606 -- the worker is to get the signals itself
