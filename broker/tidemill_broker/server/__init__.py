"""The broker's listeners, and every connection until it ends; knows nothing of any API."""

from tidemill_broker.server.server import CannotListen, Server, serve

__all__ = ("CannotListen", "Server", "serve")
