"""Implements `agentflow reviews`: list, approve and reject reviews."""

from typing import Any
from uuid import UUID

import click

from agentflow.cli.connect import connected
from agentflow.cli.finding import find_review, find_run
from agentflow.cli.inputs import like, parse_payload
from agentflow.cli.tables import DEFAULT_LIMIT, JSON, brief, echo_json, echo_json_lines, echo_table, to_ask
from agentflow.client import Client
from agentflow.engine.statuses import ReviewStatus

_REVIEW = click.argument("review", metavar="ID")
_MESSAGE = click.option("--message", default="", help="A word to those who wait for it.")


@click.group()
def reviews() -> None:
    """List what waits for a person, and approve or reject it."""


@reviews.command("list")
@click.option(
    "--status",
    type=click.Choice([*map(str, ReviewStatus), "all"], case_sensitive=False),
    default="WAITING",
    show_default=True,
)
@click.option("--run", help="Reviews of this run.")
@click.option("--limit", type=click.IntRange(1), default=DEFAULT_LIMIT, show_default=True, help="At most.")
@click.option("--all", "everything", is_flag=True, help="No limit.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one thing a line.")
def list_reviews(status: str, run: str | None, limit: int, everything: bool, as_json: bool) -> None:
    """List reviews, the newest first."""
    most = None if everything else limit
    with connected() as client:
        run_id = find_run(client, run) if run else None
        found = client.reviews(status=status, run_id=run_id, limit=to_ask(most, as_json=as_json))
        if as_json:
            echo_json_lines(found)
            return
        rows = [(one.id, one.status, one.created_at, one.run_id, one.name, brief(one.data)) for one in found]
    echo_table(("ID", "STATUS", "SINCE", "RUN", "NAME", "DATA"), rows, empty="Nothing waits for a person.", limit=most)


@reviews.command()
@_REVIEW
@click.option(
    "--data",
    metavar="TEXT",
    help="The data instead, where it may be edited: of the type of the data there; :=JSON gives JSON.",
)
@click.option("--rest", is_flag=True, help="Approve whatever else this node asks in this run.")
@_MESSAGE
@JSON
def approve(review: str, data: str | None, rest: bool, message: str, as_json: bool) -> None:
    """Approve, as it is or edited. ID: the review's, the beginning of it, or `last`."""
    with connected() as client:
        review_id = find_review(client, review)
        edited = None if data is None else (_edited(client, review_id, data),)
        decided = client.approve(review_id, message, edited=edited, rest=rest)
    if as_json:
        echo_json(decided)
    else:
        click.echo(f"Review {review_id} is approved.", err=True)


@reviews.command()
@_REVIEW
@_MESSAGE
@JSON
def reject(review: str, message: str, as_json: bool) -> None:
    """Reject. ID: the review's, the beginning of it, or `last`."""
    with connected() as client:
        review_id = find_review(client, review)
        decided = client.reject(review_id, message)
    if as_json:
        echo_json(decided)
    else:
        click.echo(f"Review {review_id} is rejected.", err=True)


def _edited(client: Client, review_id: UUID, text: str) -> Any:
    """The edited data: a text stays text unless the value that it replaces has another type."""
    if text.startswith(":="):
        return parse_payload(text, "--data")
    return like(text, client.review(review_id).data)
