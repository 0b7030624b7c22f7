"""Runs the local stack: a real PostgreSQL, a real Valkey and the Procfile's processes, from one data directory.

Read `stack.py` (the two servers), then `launch.py` (everything, as `agentflow up` runs it). Production does not use
this package: there the addresses of real servers are set, and each Procfile line is a separate service.
"""
