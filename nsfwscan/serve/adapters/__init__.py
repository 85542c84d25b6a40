"""Other programs' protocols: their requests in, their answers out.

Each module is one protocol: pure functions from a request to pictures and from judged pictures to
an answer, and a route that connects them. What could not be judged never reads as safe, so the form
of an answer follows from what that program does with it.
"""
