"""The watcher as a service of the system: what it is asked to run, and how."""
