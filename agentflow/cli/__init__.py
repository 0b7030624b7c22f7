"""Implements the command line, one module per command. Commands call a running AgentFlow by `agentflow.client` only."""
