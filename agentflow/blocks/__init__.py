"""The code behind the nodes: what a block is, which blocks there are, and the library itself.

Read `base` (what a block author writes), then `registry` (how blocks are found), then any family: `basic`, `text`,
`numbers`, `lists`, ... A block knows inputs, outputs and its context: no database, no Celery, no Flask.
"""
