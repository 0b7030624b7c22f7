"""Finds files that lie at the root of a checkout, and inside the package of an installed wheel.

`alembic/`, `examples/`, `celeryconfig.py` and `Procfile` are for people to read and edit, so a checkout keeps them at
its root. The wheel carries copies in `agentflow/_shipped/` (pyproject.toml, force-include).
"""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def shipped(name: str) -> Path:
    """The path of the shipped file or folder `name`.

    Raises:
        FileNotFoundError: it is in neither place.
    """
    for folder in (_PACKAGE / "_shipped", _PACKAGE.parent):
        if (path := folder / name).exists():
            return path
    raise FileNotFoundError(
        f"{name} is neither in {_PACKAGE / '_shipped'} nor in {_PACKAGE.parent}: reinstall agentflow"
    )
