"""`agentflow reviews`: what people are to look at."""

from uuid import UUID

import click

from agentflow.cli.connect import connected
from agentflow.cli.inputs import json_or_text
from agentflow.cli.tables import DEFAULT_LIMIT, brief, echo_json, echo_json_lines, echo_table
from agentflow.engine.statuses import ReviewStatus

_REVIEW = click.argument("review_id", metavar="ID", type=click.UUID)
_MESSAGE = click.option("--message", default="", help="A word to those who wait for it.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


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
@click.option("--run", "run_id", type=click.UUID, help="Reviews of this run.")
@click.option("--limit", type=click.IntRange(1), default=DEFAULT_LIMIT, show_default=True, help="At most.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one thing a line.")
def list_reviews(status: str, run_id: UUID | None, limit: int, as_json: bool) -> None:
    """List reviews, the newest first."""
    with connected() as client:
        found = client.reviews(status=status, run_id=run_id, limit=limit)
        if as_json:
            echo_json_lines(found)
            return
        rows = [(one.id, one.status, one.created_at, one.run_id, one.name, brief(one.data)) for one in found]
    echo_table(("ID", "STATUS", "SINCE", "RUN", "NAME", "DATA"), rows, empty="Nothing waits for a person.")


@reviews.command()
@_REVIEW
@click.option("--data", metavar="JSON", help="The data instead, where it may be edited.")
@click.option("--rest", is_flag=True, help="Approve whatever else this node asks in this run.")
@_MESSAGE
@_JSON
def approve(review_id: UUID, data: str | None, rest: bool, message: str, as_json: bool) -> None:
    """Approve, as it is or edited."""
    with connected() as client:
        edited = None if data is None else (json_or_text(data),)
        decided = client.approve(review_id, message, edited=edited, rest=rest)
    if as_json:
        echo_json(decided)
    else:
        click.echo(f"Review {review_id} is approved.", err=True)


@reviews.command()
@_REVIEW
@_MESSAGE
@_JSON
def reject(review_id: UUID, message: str, as_json: bool) -> None:
    """Reject."""
    with connected() as client:
        decided = client.reject(review_id, message)
    if as_json:
        echo_json(decided)
    else:
        click.echo(f"Review {review_id} is rejected.", err=True)
