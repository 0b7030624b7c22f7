"""The command line, with one module per command. Commands reach a running AgentFlow only through `agentflow.client`."""
