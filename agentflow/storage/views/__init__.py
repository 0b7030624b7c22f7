"""Reads runs, node executions, events, reviews and child runs, for views. Writes nothing."""
