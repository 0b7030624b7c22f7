"""Holds the blocks that steer a graph: values in and out, branches, loops, waits, child runs, memory, triggers."""
