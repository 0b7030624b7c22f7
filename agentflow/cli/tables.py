"""How does the command line show things? As JSON for programs, or as a table for people."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import click
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

DEFAULT_LIMIT = 20
"""Lines of a list, unless more are asked for."""

_WHOLE = ("ID", "NODE", "STATUS", "CREATED", "ENDED", "UPDATED")  # columns that people copy from
_PIPE_WIDTH = 1000  # characters of a line where no terminal limits it
_LONGEST = 200  # characters of a value in a table


def echo_json(content: Any) -> None:
    """JSON on standard output, indented."""
    click.echo(json.dumps(_plain(content), indent=2, ensure_ascii=False))


def echo_json_lines(items: Iterable[BaseModel]) -> None:
    """One JSON object a line: a list of any length, shown as it comes."""
    for item in items:
        click.echo(json.dumps(_plain(item), ensure_ascii=False))


def echo_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """A table on standard output; `empty` where there are no rows."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name in _WHOLE)
    for row in rows:
        table.add_row(*(Text(cell(value)) for value in row))
    if table.row_count:
        console = Console()
        Console(width=None if console.is_terminal else _PIPE_WIDTH).print(table)
    else:
        click.echo(empty, err=True)


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
