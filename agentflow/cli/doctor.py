"""Implements `agentflow doctor`: it prints what `checks.py` finds."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from agentflow.errors import EngineError
from agentflow.settings import settings

if TYPE_CHECKING:
    from agentflow.cli.checks import Finding

_MARKS = {"ok": ("ok", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red")}


def _findings() -> Iterator["Finding"]:
    from agentflow.cli.checks import Finding, findings

    try:
        ours = settings()
    except EngineError as error:  # nothing else can be checked without them
        yield Finding("settings", "fail", error.message, "correct it: README.md lists the settings")
        return
    yield from findings(ours)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of lines for people.")
def doctor(as_json: bool) -> None:
    """Check this installation: Python, server programs, database, schema, broker, workers, API, disk and clock.

    Changes nothing. The exit code is 1 if something fails; a warning leaves it at 0.
    """
    found = []
    for finding in _findings():
        found.append(finding)
        if not as_json:
            mark, colour = _MARKS[finding.level]
            click.echo(f"{click.style(f'{mark:<5}', fg=colour)} {finding.name:<16} {finding.message}")
            if finding.remedy:
                click.echo(f"{'':<23}→ {finding.remedy}")
    well = all(finding.level != "fail" for finding in found)
    if as_json:
        click.echo(json.dumps({"ok": well, "findings": [asdict(finding) for finding in found]}, indent=2))
    sys.exit(0 if well else 1)
