"""Doing something about pictures: rules say what, one module an action does it.

In: results of a scan. Out: acts. Nothing here scans, and nothing happens unless a rule asks for it.
"""
