"""These tests run against AgentFlow in this process."""

from hooked import *  # noqa: F403
from installation import *  # noqa: F403
