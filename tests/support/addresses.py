"""Addresses of databases, with other parts than the real one has."""

from typing import Any

from sqlalchemy import make_url


def altered(url: str, **parts: Any) -> str:
    """`url` with other parts: username, password, database, query."""
    return make_url(url).set(**parts).render_as_string(hide_password=False)
