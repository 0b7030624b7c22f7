"""Defines what the demo runs, and the outputs that it expects.

Each exhibit is one run of a graph in `examples/`, with inputs that point to the demo's own site. Nothing here does I/O
except reading those files.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentflow.cli.demo_site import GONE, PAGES
from agentflow.shipped import shipped


@dataclass(frozen=True, slots=True)
class Exhibit:
    """One run to show.

    Attributes:
        file: the graph's file in `examples/`.
        shows: what it demonstrates, in a sentence.
        inputs: the run's inputs.
        expected: the exact outputs, by name.
        present: names of further outputs that must exist, with any value.
        payload: what is delivered to a webhook, which begins the run; None: it is submitted.
        approval: what the person says who approves what that run asks for.
        mails: words of the mail that tells of its end; a schedule begins it. Empty: none is sent.
    """

    file: str
    shows: str
    inputs: Mapping[str, Any]
    expected: Mapping[str, list[Any]]
    present: frozenset[str] = field(default=frozenset())
    payload: Mapping[str, Any] | None = None
    approval: str = ""
    mails: str = ""

    def document(self) -> dict[str, Any]:
        """The graph's document.

        Raises:
            FileNotFoundError: the examples are missing.
        """
        content: dict[str, Any] = json.loads((shipped("examples") / self.file).read_text(encoding="utf-8"))
        return content

    def accepts(self, outputs: Mapping[str, list[Any]]) -> bool:
        """Whether a run's outputs are the expected ones."""
        certain = {name: values for name, values in outputs.items() if name not in self.present}
        return certain == dict(self.expected) and all(outputs.get(name) for name in self.present)


def exhibits(site: str) -> tuple[Exhibit, ...]:
    """The demo's runs, in order. `site`: the address of the demo's site."""
    return (
        Exhibit(
            "page-digest.json",
            "For each page of a feed: fetch it over HTTP, count its words, write a line; then one digest in the "
            "feed's order. The first pages are the slowest, and one has gone.",
            {"feed_url": f"{site}/feed.json"},
            {"digest": [digest()], "pages": [len(PAGES)]},
        ),
        Exhibit(
            "savings-plan.json",
            "A loop: one turn a year, until the goal is reached.",
            {"start": 1000, "rate": 4, "deposit": 1200, "goal": 10_000},
            savings(1000, 4, 1200, 10_000),
        ),
        Exhibit(
            "order-desk.json",
            "Branches: a known customer gets a discount; the price is above the limit, so the order waits.",
            {"customer_service": f"{site}/customers", "order": {"id": "A-1001", "customer": "Ada", "total": 180}},
            {"price": ["162.00"], "to_approve": ["Order A-1001 for Ada"]},
        ),
        Exhibit(
            "order-desk.json",
            "An error pin: the customer service hangs up, the look-up fails, and the order goes out all the same.",
            {"customer_service": f"{site}/broken", "order": {"id": "A-1002", "customer": "Bob", "total": 40}},
            {"price": ["40.00"], "to_ship": ["Order A-1002 for Bob"]},
            frozenset({"trouble"}),
        ),
    )


def more_exhibits(site: str) -> tuple[Exhibit, ...]:
    """What `--all` shows beyond that, in order. `site`: the address of the demo's site."""
    return (
        Exhibit(
            "nightly-report.json",
            "A schedule begins it, tells it the day, and its report is mailed to whom it was promised. (The night is a "
            "second away.)",
            {"feed_url": f"{site}/feed.json"},
            {},
            frozenset({"report"}),
            mails=f"has {len(PAGES)} pages",
        ),
        Exhibit(
            "order-hook.json",
            "A webhook, signed: a shop sends an order and waits for the answer, while a person approves it.",
            {},
            {"accepted": ["Order A-2002 of Grace for 75 EUR"], "message": ["fine"]},
            payload={"type": "order.created", "order": {"id": "A-2002", "customer": "Grace", "total": 75}},
            approval="fine",
        ),
    )


def digest() -> str:
    """The digest of the demo's feed."""
    return "\n".join(f"{number}. {_line(number)}" for number in range(1, len(PAGES) + 1))


def _line(number: int) -> str:
    page = PAGES[number - 1]
    if number == GONE:
        return "Could not be read: this page has gone"
    return f"{page['title']}, by {page['author']} ({len(page['text'].split())} words)"


def savings(start: float, rate: float, deposit: float, goal: float) -> dict[str, list[Any]]:
    """The outputs of the savings plan, calculated step by step as the graph does."""
    factor, balance = rate / 100 + 1, start
    lines: list[str] = []
    while balance < goal:
        balance = balance * factor + deposit
        lines.append(f"year {len(lines) + 1}: {balance:.2f}\n")
    return {"years": [len(lines)], "plan": ["".join(lines)]}
