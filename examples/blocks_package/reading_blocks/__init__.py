"""Two blocks for AgentFlow."""
