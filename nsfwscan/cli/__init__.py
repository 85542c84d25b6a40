"""The command line: one file a command, and the only place where the parts are put together."""
