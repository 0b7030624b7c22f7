"""How is AgentFlow used over HTTP? A Flask application; one blueprint per noun.

A view turns a request into the values of one service call, and its result into a reply. It decides nothing and asks
the database nothing by itself. Every error becomes an RFC 9457 problem document in `problems.py`.
"""
