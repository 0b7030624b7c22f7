"""Holds the code behind the nodes: the definition of a block, the registry, and the built-in blocks.

Read `base` (what a block author writes), then `registry` (how blocks are found), then any family in `ai`, `data`,
`files`, `flow`, `text` or `web`. A block knows its inputs, outputs and context; no database, no Celery, no Flask.
"""
