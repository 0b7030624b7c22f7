"""Schedules: graphs that run by themselves, at the times that their owners say."""
