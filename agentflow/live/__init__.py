"""Tells subscribers what happens in runs, as it happens: a process of its own, on asyncio.

    worker, API ──wake──▶ ears ──▶ hub ──▶ channels ──▶ PostgreSQL
                                    │
    client ◀── websocket, sse ◀── readers

`ears.py` hears through Redis that something was written in a run. `hub.py` reads on for all that watch it, once for
many, and gives it to their `readers.py`. `channels.py` says what can be watched and how it is read: the events table is
the truth, and this process keeps none of it. A wake-up may be lost; then the hub finds what is new by itself, later.
Who is cut off goes on with the id of the last message.
"""
