"""Defines the public pydantic models of requests, replies and events, one module per noun.

The API answers with them, the OpenAPI document is made from them, and the client parses replies into them. They define
only shapes and limits: no rules about running graphs, no database, no web framework.
"""
