"""Says which texts mean a number, by one rule for pins, comparisons, weights, durations and days.

Digits with a sign, a point and an exponent, as JSON and people write them, with white space around: ` 5`, `-1.50`,
`+.5e3`. Nothing that only Python reads so (`1_000`, digits of other scripts), and no number that is too large to hold
(`1e400`). NaN and the infinities count as the three texts that stand for them in JSON here.
"""

import math
import re
from typing import Final

_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+(?P<point>\.[0-9]*)?|(?P<fraction>\.[0-9]+))(?P<exponent>[eE][+-]?[0-9]+)?")
_SPECIAL: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

MAX_DIGITS: Final = 4300
"""Of a whole number; Python reads no longer ones, because that takes quadratic time."""


def number_in(text: str) -> int | float | None:
    """The number that `text` means, a whole one exactly if it is written so; None: it means none."""
    text = text.strip()
    if text in _SPECIAL:
        return _SPECIAL[text]
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    if not (found["point"] or found["fraction"] or found["exponent"]):
        return int(text) if len(text) <= MAX_DIGITS else None
    number = float(text)
    return number if math.isfinite(number) else None
