"""Prints results: as JSON for programs, or as tables for people."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import click
from pydantic import BaseModel
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agentflow.clock import now

DEFAULT_LIMIT = 20
"""The default number of lines of a list."""

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
"""What every command has that tells something."""

_WHOLE = ("ID", "RUN", "NODE", "STATUS", "CREATED", "SINCE", "UPDATED", "DURATION")  # never wrapped: people copy them
_NARROWEST = 12  # least width of a column that may be wrapped, in characters
_GAP = 2  # characters between columns
_PIPE_WIDTH = 1000  # line width without a terminal, in characters
_LONGEST = 200  # longest value in a table, in characters


def echo_json(content: Any) -> None:
    """Print indented JSON on standard output."""
    click.echo(json.dumps(_plain(content), indent=2, ensure_ascii=False))


def echo_json_lines(items: Iterable[BaseModel]) -> None:
    """Print one JSON object per line, each as soon as it arrives."""
    for item in items:
        click.echo(json.dumps(_plain(item), ensure_ascii=False))


def to_ask(limit: int | None, *, as_json: bool) -> int | None:
    """How many items to request if `limit` are shown: for tables one more, to know whether there are more."""
    return limit if limit is None or as_json else limit + 1


def report_more(found: int, limit: int | None) -> None:
    """Report on standard error if more items were found than are shown."""
    if limit is not None and found > limit:
        click.echo(f"There are more than these {limit}: a higher --limit shows them.", err=True)


def echo_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str, limit: int | None = None) -> None:
    """Print a table of the first `limit` rows on standard output; `empty` if there are none. No names: no header."""
    found = [[cell(value) for value in row] for row in rows]
    lines = found[:limit]
    if not lines:
        click.echo(empty, err=True)
        return
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(columns))
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name in _WHOLE)
    for line in lines:
        table.add_row(*map(Text, line))
    Console(width=max(room(), _least(columns, lines))).print(table)
    report_more(len(found), limit)


def console(*, stderr: bool = False) -> Console:
    """A console that wraps lines between words, but only on a terminal."""
    found = Console(stderr=stderr)
    found.soft_wrap = not found.is_terminal
    return found


def room() -> int:
    """The line width of standard output: the terminal's, or one so large that nothing is wrapped."""
    console = Console()
    return console.width if console.is_terminal else _PIPE_WIDTH


def _least(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> int:
    """The least width at which no column of `_WHOLE` is cut. On a narrower terminal, the terminal wraps the lines."""
    longest = [
        max(map(cell_len, (name, *found))) for name, found in zip(columns, zip(*lines, strict=True), strict=True)
    ]
    least = [width if name in _WHOLE else min(width, _NARROWEST) for name, width in zip(columns, longest, strict=True)]
    return sum(least) + _GAP * (len(columns) - 1)


def moment(when: datetime) -> str:
    """A short time: month, day, hour and minute if it is in this year; else the date."""
    local = when.astimezone()
    return local.strftime("%m-%d %H:%M" if local.year == now().astimezone().year else "%Y-%m-%d")


def duration(seconds: float) -> str:
    """A short duration: `3.1 s`, `4:05`, `2:00:07`, `3 d 04:00`."""
    if seconds < 60:
        return f"{max(seconds, 0):.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours:02}:{minutes:02}"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def cell(value: Any) -> str:
    """A value on one line."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return brief(value) if isinstance(value, dict | list | str) else str(value)


def brief(value: Any) -> str:
    """A JSON value on one line, truncated if it is long."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join("".join(char if char.isprintable() else " " for char in text[: _LONGEST * 2]).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _plain(content: Any) -> Any:
    return content.model_dump(mode="json") if isinstance(content, BaseModel) else content
