"""The HTTP server: answers with scores what programs send it. Everything stays in memory."""
