"""How does the command line show things? As JSON for programs, or as a table for people."""

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
"""Lines of a list, unless more are asked for."""

_WHOLE = ("ID", "RUN", "NODE", "STATUS", "CREATED", "SINCE", "UPDATED", "DURATION")  # columns that people copy from
_NARROWEST = 12  # characters of a column whose text may be wrapped
_GAP = 2  # characters between columns
_PIPE_WIDTH = 1000  # characters of a line where no terminal limits it
_LONGEST = 200  # characters of a value in a table


def echo_json(content: Any) -> None:
    """JSON on standard output, indented."""
    click.echo(json.dumps(_plain(content), indent=2, ensure_ascii=False))


def echo_json_lines(items: Iterable[BaseModel]) -> None:
    """One JSON object a line: a list of any length, shown as it comes."""
    for item in items:
        click.echo(json.dumps(_plain(item), ensure_ascii=False))


def to_ask(limit: int | None, *, as_json: bool) -> int | None:
    """How many things to ask for where `limit` are shown: for people one more, to know whether there are more."""
    return limit if limit is None or as_json else limit + 1


def tell_of_more(found: int, limit: int | None) -> None:
    """Say on standard error that there are more things than are shown, if so many were found."""
    if limit is not None and found > limit:
        click.echo(f"There are more than these {limit}: a higher --limit shows them.", err=True)


def echo_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str, limit: int | None = None) -> None:
    """A table on standard output, of the first `limit` rows; `empty` where there are none. Without names, no header."""
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
    tell_of_more(len(found), limit)


def console(*, stderr: bool = False) -> Console:
    """A console that breaks lines between words on a terminal, and nowhere else."""
    found = Console(stderr=stderr)
    found.soft_wrap = not found.is_terminal
    return found


def room() -> int:
    """Characters of a line on standard output: the terminal's, or so many that nothing is wrapped."""
    console = Console()
    return console.width if console.is_terminal else _PIPE_WIDTH


def _least(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> int:
    """The width below which something would be cut that people copy: the terminal then wraps the lines."""
    longest = [
        max(map(cell_len, (name, *found))) for name, found in zip(columns, zip(*lines, strict=True), strict=True)
    ]
    least = [width if name in _WHOLE else min(width, _NARROWEST) for name, width in zip(columns, longest, strict=True)]
    return sum(least) + _GAP * (len(columns) - 1)


def moment(when: datetime) -> str:
    """A time of this year in few characters: month and day, hour and minute; else its date."""
    local = when.astimezone()
    return local.strftime("%m-%d %H:%M" if local.year == now().astimezone().year else "%Y-%m-%d")


def duration(seconds: float) -> str:
    """A time span in few characters: `3.1 s`, `4:05`, `2:00:07`, `3 d 04:00`."""
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
    """A JSON value on one line, cut where it is long."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join("".join(char if char.isprintable() else " " for char in text[: _LONGEST * 2]).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _plain(content: Any) -> Any:
    return content.model_dump(mode="json") if isinstance(content, BaseModel) else content
