"""The command line: one file per command. Only here are the other packages put together."""
