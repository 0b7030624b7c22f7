"""The pure rules of running a graph: statuses, routing, inputs, retries, and how a run ends. No I/O, no clock."""
