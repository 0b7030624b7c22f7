"""Which providers can be called from here? For now those whose credentials the operator has set."""

from typing import Final

from agentflow.settings import settings

_WITHOUT: Final = frozenset({"ollama"})
"""Providers that let everybody in."""


def has_credential(provider: str) -> bool:
    """Whether there is a credential for a provider, or none is needed."""
    return provider in _WITHOUT or provider in settings().credentials
