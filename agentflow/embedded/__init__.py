"""The local stack: a real PostgreSQL, a real Valkey and the Procfile's processes, run from one data directory.

Read `stack.py` (the two servers), then `launch.py` (everything, as `agentflow up` runs it). Nothing here is used in
production, where the addresses of real servers are set and each Procfile line is a service of its own.
"""
