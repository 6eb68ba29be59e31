"""Reads the topics out of a consumer's subscription (ConsumerProtocolSubscription), else opaque here."""

from __future__ import annotations

import struct
from typing import Final

CONSUMER: Final = "consumer"


def subscribed_topics(subscription: bytes) -> frozenset[str] | None:
    """The topics that a consumer asks for; None if these bytes are not a consumer's subscription.

    All versions begin alike: int16 version, then an array of strings.
    """
    try:
        _, count = struct.unpack_from(">hi", subscription)
        at, topics = 6, []
        for _ in range(count):
            (length,) = struct.unpack_from(">H", subscription, at)
            at += 2 + length
            topics.append(subscription[at - length : at].decode())
    except (struct.error, UnicodeDecodeError):
        return None
    return frozenset(topics) if at <= len(subscription) else None
