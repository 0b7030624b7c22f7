"""The command line, one module a command. What concerns a running AgentFlow speaks HTTP through `agentflow.client`."""
