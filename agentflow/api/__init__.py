"""Serves AgentFlow over HTTP: a Flask application with one blueprint per noun.

A view turns a request into the arguments of one service call, and its result into a reply. It must not decide anything
or query the database itself. `problems.py` turns every error into an RFC 9457 problem document.
"""
