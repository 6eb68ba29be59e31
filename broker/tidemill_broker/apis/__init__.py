"""The APIs: `table` lists them, `dispatching` finds the handler of a request, each family has a module."""

from tidemill_broker.apis.api import Api, CloseConnection, Reply
from tidemill_broker.apis.broker import Broker, Connection
from tidemill_broker.apis.dispatching import dispatch
from tidemill_broker.apis.table import APIS

__all__ = ("APIS", "Api", "Broker", "CloseConnection", "Connection", "Reply", "dispatch")
