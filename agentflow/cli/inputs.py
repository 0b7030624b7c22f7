"""What do people write for values on a command line? JSON, else text; pairs as NAME=VALUE."""

import json
from typing import Any

import click


def json_or_text(text: str) -> Any:
    """The JSON that `text` is; where it is none, the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def parse_pair(text: str, option: str) -> tuple[str, str]:
    """NAME and VALUE of `NAME=VALUE`.

    Raises:
        click.BadParameter: it is no such pair; names `option`.
    """
    name, found, value = text.partition("=")
    if not found or not name:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=option)
    return name, value


def parse_input(text: str, option: str = "--input") -> tuple[str, Any]:
    """NAME and value of `NAME=VALUE`, where the value is JSON, else text.

    Raises:
        click.BadParameter: it is no such pair; names `option`.
    """
    name, value = parse_pair(text, option)
    return name, json_or_text(value)
