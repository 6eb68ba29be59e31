"""The librdkafka that confluent-kafka ships, called as its own C benchmark does: a batch of messages a call.

confluent-kafka's Python objects cost more per record than any broker here; what is measured is the broker, so
throughput is produced through the same library's `rd_kafka_produce_batch`. Payloads are shared, not copied.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import confluent_kafka

PRODUCER, CONF_OK = 0, 0
ANY_PARTITION = -1
QUEUE_FULL = -184


class _Message(ctypes.Structure):
    """rd_kafka_message_t of librdkafka's rdkafka.h."""

    _fields_ = (
        ("err", ctypes.c_int),
        ("rkt", ctypes.c_void_p),
        ("partition", ctypes.c_int32),
        ("payload", ctypes.c_void_p),
        ("len", ctypes.c_size_t),
        ("key", ctypes.c_void_p),
        ("key_len", ctypes.c_size_t),
        ("offset", ctypes.c_int64),
        ("private", ctypes.c_void_p),
    )


@cache
def _library() -> Any:
    folder = Path(confluent_kafka.__file__).parent.with_name("confluent_kafka.libs")
    library: Any = ctypes.CDLL(str(next(folder.glob("librdkafka*.so*"))))
    pointer, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
    library.rd_kafka_conf_new.restype = pointer
    library.rd_kafka_conf_set.argtypes = (pointer, text, text, text, size)
    library.rd_kafka_new.restype = pointer
    library.rd_kafka_new.argtypes = (ctypes.c_int, pointer, text, size)
    library.rd_kafka_topic_new.restype = pointer
    library.rd_kafka_topic_new.argtypes = (pointer, text, pointer)
    library.rd_kafka_produce_batch.argtypes = (pointer, ctypes.c_int32, ctypes.c_int, pointer, ctypes.c_int)
    library.rd_kafka_poll.argtypes = (pointer, ctypes.c_int)
    library.rd_kafka_outq_len.argtypes = (pointer,)
    library.rd_kafka_flush.argtypes = (pointer, ctypes.c_int)
    library.rd_kafka_topic_destroy.argtypes = (pointer,)
    library.rd_kafka_destroy.argtypes = (pointer,)
    return library


class BatchProducer:
    """A producer of one payload, over and over; a context manager."""

    def __init__(self, topic: str, payload: bytes, config: Mapping[str, str], *, batch: int = 1000) -> None:
        self._library = _library()
        error = ctypes.create_string_buffer(512)
        conf = self._library.rd_kafka_conf_new()
        for name, value in config.items():
            if self._library.rd_kafka_conf_set(conf, name.encode(), value.encode(), error, 512) != CONF_OK:
                raise ValueError(error.value.decode())
        self._handle = self._library.rd_kafka_new(PRODUCER, conf, error, 512)
        self._topic = self._library.rd_kafka_topic_new(self._handle, topic.encode(), None)
        self._payload = ctypes.create_string_buffer(payload, len(payload))
        address = ctypes.addressof(self._payload)
        rows = [_Message(payload=address, len=len(payload), partition=ANY_PARTITION) for _ in range(batch)]
        self._messages = (_Message * batch)(*rows)
        self._batch = batch

    def produce(self, records: int, *, queued_max: int = 100_000) -> None:
        """Send so many records and wait until each is acknowledged; RuntimeError if some are not."""
        library = self._library
        left = records
        while left > 0:
            count = min(left, self._batch)
            taken = library.rd_kafka_produce_batch(self._topic, ANY_PARTITION, 0, self._messages, count)
            left -= taken
            while library.rd_kafka_outq_len(self._handle) > queued_max:
                library.rd_kafka_poll(self._handle, 1)
        if library.rd_kafka_flush(self._handle, 60_000) != 0:
            raise RuntimeError("not every record was acknowledged within a minute")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._library.rd_kafka_topic_destroy(self._topic)
        self._library.rd_kafka_destroy(self._handle)
