"""Measures AgentFlow against plain Celery on the same machine, and whether its cost grows with size.

    python -m benchmarks            everything, at most a quarter of an hour       (`make bench`)
    python -m benchmarks --quick    fewer rounds and smaller tables, under two minutes
    python -m benchmarks --only chain hops

It starts a real PostgreSQL and a real Valkey in a temporary directory, and stops them again. It does not touch anything
else that runs on this machine.

    ground.py      the servers, their databases, and the environment of worker processes
    fleet.py       starts and stops the worker processes of one side
    canvas.py      the other side: the same shapes on stock Celery canvas, and bare no-op tasks
    graphs.py      the shapes as graphs;  flows.py  runs them on AgentFlow and checks their outputs
    shapes.py      calibration, then paired alternating rounds: the ratios
    cpu.py         the CPU time of a step by process, on both sides
    versus.py      two checkouts in alternating rounds;  turn_taker.py  the process that measures one of them
    soak.py        the memory of each process over very many node executions
    hops.py        the cost of one step of a chain on an idle machine
    hot_path.py    claim and settle by themselves;  fan_in.py, growth.py  their cost as graphs and tables grow
    report.py      percentiles and tables

Only ratios within one run on one machine are meaningful. Every result is checked; a wrong one ends the benchmark. This
package never asserts a speed, and no test depends on it.
"""
