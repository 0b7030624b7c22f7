"""Holds what a graph means, without running it: its model, pins, validation and compiled plan.

Nothing here does I/O or reads a clock. Read in this order: `model` (the document), `catalogue` (what the graph must
know about blocks), `pins` and `coercion` (how values reach a block), `validation` (what is wrong with a graph), `plan`
(the form that workers run), `schemas` (which inputs a run takes and which outputs it gives).
"""
