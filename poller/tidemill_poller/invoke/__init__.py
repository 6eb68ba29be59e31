"""Calls the function: one Invoke request in, one Outcome out."""

from tidemill_poller.invoke.invoker import Invoker, InvokerMisconfigured

__all__ = ["Invoker", "InvokerMisconfigured"]
