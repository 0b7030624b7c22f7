"""Saved inputs of a graph, under a name."""
