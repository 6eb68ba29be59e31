"""Bytes <-> values of the Kafka protocol: headers, frames, errors. No I/O, no clock; apis calls it."""

from tidemill_broker.protocol import without_hypothesis

__all__ = ("without_hypothesis",)
