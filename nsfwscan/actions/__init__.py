"""Actions on pictures: rules choose them, and each action has a module of its own.

In: results of a scan. Out: acts. Nothing here scans, and nothing happens unless a rule asks for it.
"""
