"""How fast is AgentFlow, beside plain Celery on the same machine, and does its cost grow with anything?

    python -m benchmarks            everything, at most a quarter of an hour       (`make bench`)
    python -m benchmarks --quick    fewer rounds and smaller tables, under two minutes
    python -m benchmarks --only chain hops

One command: a real PostgreSQL and a real Valkey are started in a temporary directory and stopped again; nothing that
runs on this machine is touched.

    ground.py      the servers, the databases in them, and the environment that worker processes get
    fleet.py       worker processes of one side: started, awaited, stopped
    canvas.py      the other side: the same shapes on stock Celery canvas, and bare no-op tasks
    graphs.py      the shapes as graphs;  flows.py  runs them on AgentFlow and checks what comes out
    shapes.py      calibration, then paired rounds in turns: the ratios
    cpu.py         whose CPU time a step costs, on both sides
    versus.py      two checkouts side by side, in turns;  turn_taker.py  the process that measures one of them
    soak.py        what each process remembers of very many node executions
    hops.py        what one step of a chain costs on the idle machine
    hot_path.py    claim and settle called by themselves;  fan_in.py, growth.py  what they cost as things get larger
    report.py      percentiles and tables

Only ratios of one run on one machine mean anything. Every result is checked; a wrong one ends the benchmark. This
package measures and never asserts a speed: no test depends on it.
"""
