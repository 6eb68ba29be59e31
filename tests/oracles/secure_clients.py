"""How each client library is told to log in, and what it says when it is not let in.

A `Login` is who one is, by which mechanism; `options` spells it for a library. Knows no broker.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import aiokafka
import aiokafka.abc
import aiokafka.errors
import confluent_kafka
import kafka
import kafka.errors
import pytest
from aws_msk_iam_sasl_signer import MSKAuthTokenProvider
from botocore.credentials import CredentialProvider, Credentials
from kafka.net.sasl.oauth import AbstractTokenProvider

DEADLINE_S = 20.0  # of what ends in a second on a machine that is not busy


@dataclass(frozen=True, kw_only=True)
class Keys:
    """AWS credentials, and the region that they are used in."""

    access_key_id: str
    secret: str
    token: str | None
    region: str

    def environment(self) -> dict[str, str]:
        """What every AWS SDK reads."""
        token = {} if self.token is None else {"AWS_SESSION_TOKEN": self.token}
        return {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            **token,
        }


@dataclass(frozen=True, kw_only=True)
class Login:
    """`mechanism` is SASL's name, or SSL for a certificate: key and chain in one PEM file."""

    mechanism: str
    ca: str
    certificate: str = ""
    user: str = ""
    password: str = ""
    keys: Keys | None = None

    @property
    def protocol(self) -> str:
        return "SSL" if self.mechanism == "SSL" else "SASL_SSL"


def options(library: str, login: Login) -> dict[str, Any]:
    """A library's own options for a login."""
    return {"aiokafka": _aiokafka, "kafka-python": _kafka_python, "confluent-kafka": _confluent}[library](
        login
    )


def _aiokafka(login: Login) -> dict[str, Any]:
    context = ssl.create_default_context(cafile=login.ca)
    if login.certificate:
        context.load_cert_chain(login.certificate)
    how: dict[str, Any] = {"security_protocol": login.protocol, "ssl_context": context}
    if login.mechanism == "SSL":
        return how
    how["sasl_mechanism"] = login.mechanism
    if login.keys is not None:
        return {**how, "sasl_oauth_token_provider": _AioTokens(login.keys)}
    return {**how, "sasl_plain_username": login.user, "sasl_plain_password": login.password}


def _kafka_python(login: Login) -> dict[str, Any]:
    how: dict[str, Any] = {"security_protocol": login.protocol, "ssl_cafile": login.ca}
    if login.certificate:
        how["ssl_certfile"] = login.certificate
    if login.mechanism == "SSL":
        return how
    how["sasl_mechanism"] = login.mechanism
    if login.mechanism == "AWS_MSK_IAM":
        return how  # it asks botocore, which reads the environment
    if login.keys is not None:
        return {**how, "sasl_oauth_token_provider": _PythonTokens(login.keys)}
    return {**how, "sasl_plain_username": login.user, "sasl_plain_password": login.password}


def _confluent(login: Login) -> dict[str, Any]:
    how: dict[str, Any] = {"security.protocol": login.protocol, "ssl.ca.location": login.ca}
    if login.certificate:
        how |= {"ssl.certificate.location": login.certificate, "ssl.key.location": login.certificate}
    if login.mechanism == "SSL":
        return how
    how["sasl.mechanism"] = login.mechanism
    keys = login.keys
    if keys is not None:
        return {**how, "oauth_cb": lambda _config: _confluent_token(keys)}
    return {**how, "sasl.username": login.user, "sasl.password": login.password}


class _Given(CredentialProvider):  # type: ignore[misc]  # botocore ships no types
    METHOD = "given"

    def __init__(self, keys: Keys) -> None:
        super().__init__()
        self._keys = keys

    def load(self) -> Credentials:
        return Credentials(self._keys.access_key_id, self._keys.secret, self._keys.token)


def _signed(keys: Keys) -> tuple[str, int]:
    """What AWS's own signer makes, and when it expires, in milliseconds since the epoch."""
    token, expires_ms = MSKAuthTokenProvider.generate_auth_token_from_credentials_provider(
        keys.region, _Given(keys)
    )
    return str(token), int(expires_ms)


def _confluent_token(keys: Keys) -> tuple[str, float]:
    token, expires_ms = _signed(keys)
    return token, expires_ms / 1000


class _AioTokens(aiokafka.abc.AbstractTokenProvider):  # type: ignore[misc]  # it ships no types
    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def token(self) -> str:
        token, _ = await asyncio.to_thread(_signed, self._keys)
        return token


class _PythonTokens(AbstractTokenProvider):  # type: ignore[misc]  # it ships no types
    def __init__(self, keys: Keys) -> None:
        super().__init__()
        self._keys = keys

    def token(self) -> str:
        return _signed(self._keys)[0]

    def extensions(self) -> dict[str, str]:
        return {}


def refusal(library: str, bootstrap: str, login: Login, *, words: str) -> str:
    """Try to log in where one is not let in, until the library has said these words (not "") of the reason.

    All that it said, errors and log lines. Fails if it gets in, hangs, or has not said them by the deadline.
    """
    attempt = {
        "aiokafka": _aiokafka_refusal,
        "kafka-python": _kafka_python_refusal,
        "confluent-kafka": _confluent_refusal,
    }[library]
    how = options(library, login)
    deadline_s = time.monotonic() + DEADLINE_S
    with _heard({"aiokafka": "aiokafka", "kafka-python": "kafka"}.get(library, library)) as heard:
        while words not in "".join(heard):
            assert time.monotonic() < deadline_s, f"never said {words!r}: {heard}"
            heard.append(attempt(bootstrap, how))
    return "\n".join(heard)


def _aiokafka_refusal(bootstrap: str, how: Mapping[str, Any]) -> str:
    async def attempt() -> None:
        producer = aiokafka.AIOKafkaProducer(bootstrap_servers=bootstrap, **how)
        try:
            await asyncio.wait_for(producer.start(), DEADLINE_S)
        finally:
            await producer.stop()

    with pytest.raises(aiokafka.errors.KafkaConnectionError) as refused:
        asyncio.run(attempt())
    return str(refused.value)


def _kafka_python_refusal(bootstrap: str, how: Mapping[str, Any]) -> str:
    with pytest.raises(kafka.errors.KafkaError) as refused:
        # It tries again for as long as this (by default 30 s), and tells of it in the log only.
        kafka.KafkaProducer(bootstrap_servers=bootstrap, bootstrap_timeout_ms=700, **how)
    return str(refused.value)


def _confluent_refusal(bootstrap: str, how: Mapping[str, Any]) -> str:
    errors: list[confluent_kafka.KafkaError] = []
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": bootstrap, "error_cb": errors.append, "log_level": 0, **how}
    )
    deadline_s = time.monotonic() + DEADLINE_S
    while not errors:
        assert time.monotonic() < deadline_s, "it says nothing"
        producer.poll(0.1)
    return "\n".join(f"{error.name()}: {error.str()}" for error in errors)


@contextmanager
def _heard(name: str) -> Iterator[list[str]]:
    """What a library logs from warnings upwards."""
    lines: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    listener = Listener(logging.WARNING)
    logger = logging.getLogger(name)
    logger.addHandler(listener)
    try:
        yield lines
    finally:
        logger.removeHandler(listener)
