"""Reconciles stored mappings with running pollers."""

from tidemill_poller.fleet.fleet import Fleet
from tidemill_poller.fleet.function_updates import FunctionUpdates
from tidemill_poller.fleet.reconciler import Dependencies

__all__ = ["Dependencies", "Fleet", "FunctionUpdates"]
