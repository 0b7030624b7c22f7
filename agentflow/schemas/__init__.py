"""What do requests, replies and events look like? The public pydantic models, one module per noun.

The API answers with them, the OpenAPI document is made from them, and the client reads replies back into them. They
hold shapes and bounds only: no rule of running a graph, no database, no web framework.
"""
