"""Reads the prices of language models: a JSON file that comes with the package, or the operator's own.

    {"models": {"gpt-4o": {"flat": 2, "input": 250, "output": 1000, "cache_read": 125, "cache_write": 0}}}

Rates are credits for 10⁶ tokens, `flat` is in credits; `source` says where they are from. A dated name
(`gpt-4o-2024-11-20`) has the price of the name without its date, unless it has its own. It must not know the settings:
they check the file with this.
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

_SHOWN: Final = 5
"""Faults of a file that a message names."""

_DATE: Final = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2})$", re.ASCII)
"""Of a model's release, at the end of its name."""

Rate = Annotated[float, Field(ge=0, le=10**9, strict=True, allow_inf_nan=False)]
"""Credits for 10⁶ tokens of one kind."""


class ModelPrice(BaseModel):
    """What a model costs. `flat`: credits that are held back before its tokens are known; None: as the block says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    flat: Annotated[int, Field(ge=0, le=10**9, strict=True)] | None = None
    input: Rate
    output: Rate
    cache_read: Rate = 0.0
    cache_write: Rate = 0.0


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    source: dict[str, str] = {}
    models: dict[str, ModelPrice]


Prices = Mapping[str, ModelPrice]
"""Name of a model → what it costs."""


@cache
def model_prices(path: Path | None) -> Prices:
    """The prices in a file; None: those that come with the package. Read once.

    Raises:
        ValueError: it cannot be read, or a price in it is wrong; the message says where.
    """
    name = str(path) if path else "the package's models.json"
    try:
        text = path.read_text() if path else files("agentflow.credits").joinpath("models.json").read_text()
        return _File.model_validate(json.loads(text, object_pairs_hook=_unique)).models
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, one['loc'])) or 'file'}: {one['msg']}" for one in error.errors()[:_SHOWN]]
        raise ValueError(f"{name}: {'; '.join(wrong)}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not JSON: {error}") from None


def price_of(prices: Prices, name: str) -> ModelPrice | None:
    """What the model of this name costs; None: its price is unknown."""
    name = name.strip()
    return prices.get(name) or prices.get(_DATE.sub("", name))


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Refuse a name that occurs twice: one of its prices would be lost."""
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name occurs twice in one object")
    return made
