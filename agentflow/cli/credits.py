"""Implements `agentflow credits`: what a user has and has used; for admins, to give credits and to limit a user."""

import re

import click

from agentflow.cli.connect import connected
from agentflow.cli.finding import find_user
from agentflow.cli.tables import DEFAULT_LIMIT, JSON, echo_json, echo_json_lines, echo_table, to_ask
from agentflow.credits.store import MOST

_OF = click.option("--user", metavar="ID|NAME", help="For admins: of this user.  [default: your own]")
_USER = click.argument("user", metavar="ID|NAME")


class _Limit(click.ParamType[int | None]):
    """A number of credits, or `none`."""

    name = "credits"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """The number; None for `none`."""
        if str(value).lower() == "none":
            return None
        if not re.fullmatch(r"[0-9]{1,16}", str(value), re.ASCII) or int(str(value)) > MOST:
            self.fail(f"{value!r} is neither a number of credits nor none", param, ctx)
        return int(str(value))


@click.group()
def credits() -> None:
    """Show what you have and have used; for admins: give credits, limit what users spend.

    A credit is 0.01 US dollars.
    """


@credits.command()
@_OF
@JSON
def show(user: str | None, as_json: bool) -> None:
    """Show what a user has."""
    with connected() as client:
        found = client.credits.get(user_id=find_user(client, user) if user else None)
    if as_json:
        echo_json(found)
        return
    rows = [
        ("balance", f"{found.balance} (low)" if found.low else found.balance),
        ("of it held back", found.held),
        ("available", found.available),
        ("spent today", found.spent_today),
        ("limit a day", "none" if found.daily_limit is None else found.daily_limit),
    ]
    echo_table(("", ""), rows, empty="")
    if not found.enabled:
        click.echo("Runs cost nothing here: AGENTFLOW_CREDITS is off.", err=True)


@credits.command()
@_OF
@click.option("--limit", type=click.IntRange(1), default=DEFAULT_LIMIT, show_default=True, help="At most.")
@click.option("--all", "everything", is_flag=True, help="No limit.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one transaction a line.")
def transactions(user: str | None, limit: int, everything: bool, as_json: bool) -> None:
    """List a user's transactions, the newest first."""
    most = None if everything else limit
    with connected() as client:
        user_id = find_user(client, user) if user else None
        found = client.credits.transactions(user_id=user_id, limit=to_ask(most, as_json=as_json))
        if as_json:
            echo_json_lines(found)
            return
        rows = [
            (
                one.at,
                one.type,
                f"{one.amount:+}",
                one.balance,
                one.run_id,
                f"{one.node_id} #{one.index}" if one.node_id else None,
                one.block or one.reason,
            )
            for one in found
        ]
    header = ("AT", "TYPE", "CREDITS", "BALANCE", "RUN", "NODE", "WHAT FOR")
    echo_table(header, rows, empty="There are no transactions.", limit=most)


@credits.command()
@_USER
@click.argument("amount", type=click.IntRange(1, MOST))
@click.option("--reason", default="grant", show_default=True, help="Why; kept in the ledger.")
@click.option("--refund", is_flag=True, help="They are given back for what was paid.")
@JSON
def grant(user: str, amount: int, reason: str, refund: bool, as_json: bool) -> None:
    """Give a user AMOUNT credits. For admins."""
    with connected() as client:
        made = client.credits.grant(find_user(client, user), amount, reason, refund=refund)
    echo_json(made) if as_json else click.echo(f"The balance is {made.balance} now.", err=True)


@credits.command()
@_USER
@click.argument("amount", type=_Limit(), metavar="CREDITS|none")
@JSON
def limit(user: str, amount: int | None, as_json: bool) -> None:
    """Set how many credits a user may spend a day (UTC); none: as many as everybody. For admins."""
    with connected() as client:
        found = client.credits.set_daily_limit(find_user(client, user), amount)
    shown = "no limit" if found.daily_limit is None else f"{found.daily_limit} credits"
    echo_json(found) if as_json else click.echo(f"The limit a day is {shown} now.", err=True)
