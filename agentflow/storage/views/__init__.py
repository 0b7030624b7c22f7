"""Reads for those who watch: runs, node executions, events, reviews, and what came of a child run. Writes nothing."""
