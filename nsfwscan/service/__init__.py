"""The watcher as a background service: what the system runs, and how it is set up."""
