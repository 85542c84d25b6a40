"""Serving HTTP on this computer: the server, and who may talk to it.

In: an ASGI application. Out: answers on a loopback socket. What the application does is not known
here.
"""
