"""Keeps users' credentials encrypted, and finds the ones that a node execution may use.

Read `kinds.py` (what there is), `encryption.py` (how it is kept), `service.py` (how it is made and changed),
`choice.py` (which one a pin gets), and `granting.py` (how a block gets it). The operator's own are in `system.py`.
"""
