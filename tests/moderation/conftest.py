"""These tests run against AgentFlow in this process."""

from installation import *  # noqa: F403
