"""Owns the client configurations that `up --auth` writes: librdkafka, Java and Python, for each mechanism.

Pure: names and texts of files; some hold a password or a key, so the caller writes them for one user
alone, and logs nothing of them.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from tidemill_broker.listeners import ListenerName
from tidemill_local.secured.kept_secrets import USER_NAME, KeptSecrets

Mechanism = Literal["iam", "scram", "plain", "mtls"]
LISTENER_OF: Final[Mapping[Mechanism, ListenerName]] = {
    "iam": "iam",
    "scram": "scram",
    "plain": "scram",
    "mtls": "tls",
}
_SASL_NAMES = {"iam": "AWS_MSK_IAM", "scram": "SCRAM-SHA-512", "plain": "PLAIN"}
_JAVA_MODULES = {
    "iam": "software.amazon.msk.auth.iam.IAMLoginModule required;",
    "scram": "org.apache.kafka.common.security.scram.ScramLoginModule required ",
    "plain": "org.apache.kafka.common.security.plain.PlainLoginModule required ",
}
_JAVA_IAM_HANDLER = "software.amazon.msk.auth.iam.IAMClientCallbackHandler"

_NO_SIGNING = (
    "# librdkafka signs nothing itself: give it tokens by its OAuth callback, as iam_python.py does."
)
_JAVA_IAM_NEEDS = "# Needs software.amazon.msk:aws-msk-iam-auth on the class path; credentials: see iam.env."

_PYTHON = '''\
"""Kafka over {title}: options for three Python clients. `python {file}` lists the topics.

For example: confluent_kafka.Producer(confluent()), aiokafka.AIOKafkaProducer(**aiokafka()).
"""

SERVERS = {servers}
CA = {ca}
{constants}


def confluent():
    """For confluent_kafka's clients."""
    return {{
        "bootstrap.servers": SERVERS,
        "ssl.ca.location": CA,
        {confluent}
    }}


def aiokafka():
    """For aiokafka's clients, inside a running event loop."""
    from aiokafka.helpers import create_ssl_context

    return {{
        "bootstrap_servers": SERVERS,
        {aiokafka}
    }}


def kafka_python():
    """For kafka-python's clients."""
    return {{
        "bootstrap_servers": SERVERS,
        "ssl_cafile": CA,
        {kafka_python}
    }}


if __name__ == "__main__":
    from confluent_kafka.admin import AdminClient
{check}
    print(*sorted(AdminClient(confluent()).list_topics(timeout=10).topics), sep="\\n")
'''
_PYTHON_CREDENTIALS = "USERNAME = {username}\nPASSWORD = {password}"
_PYTHON_CERTIFICATE = "CERTIFICATE_AND_KEY = {client}"
_PYTHON_SIGNING = '''\
REGION = {region}


def token(_config=None):
    """A token signed with the AWS credentials of the environment (see iam.env), and its end in seconds."""
    from aws_msk_iam_sasl_signer import MSKAuthTokenProvider

    text, expires_ms = MSKAuthTokenProvider.generate_auth_token(REGION)
    return text, expires_ms / 1000


def token_provider():
    """The same for aiokafka."""
    from aiokafka.abc import AbstractTokenProvider

    class Provider(AbstractTokenProvider):
        async def token(self):
            return token()[0]

    return Provider()'''
# The client itself would only say that it waited for a token.
_CREDENTIALS_CHECK = """
    import boto3

    if boto3.Session().get_credentials() is None:
        raise SystemExit("There are no AWS credentials: for a shell, `. iam.env` sets the IAM user's.")
"""
_CONFLUENT_PASSWORD = (
    '"security.protocol": "SASL_SSL"',
    '"sasl.mechanism": "{sasl}"',
    '"sasl.username": USERNAME',
    '"sasl.password": PASSWORD',
)
_OPTIONS_PASSWORD = (
    '"security_protocol": "SASL_SSL"',
    '"sasl_mechanism": "{sasl}"',
    '"sasl_plain_username": USERNAME',
    '"sasl_plain_password": PASSWORD',
)
_AIOKAFKA_TRUST = '"ssl_context": create_ssl_context(cafile=CA)'
# Of each client, the options that differ by mechanism.
_PYTHON_OPTIONS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "password": {
        "confluent": _CONFLUENT_PASSWORD,
        "aiokafka": (*_OPTIONS_PASSWORD, _AIOKAFKA_TRUST),
        "kafka_python": _OPTIONS_PASSWORD,
    },
    "iam": {
        "confluent": (
            '"security.protocol": "SASL_SSL"',
            '"sasl.mechanism": "OAUTHBEARER"',
            '"oauth_cb": token',
        ),
        "aiokafka": (
            '"security_protocol": "SASL_SSL"',
            '"sasl_mechanism": "OAUTHBEARER"',
            '"sasl_oauth_token_provider": token_provider()',
            _AIOKAFKA_TRUST,
        ),
        "kafka_python": ('"security_protocol": "SASL_SSL"', '"sasl_mechanism": "AWS_MSK_IAM"'),
    },
    "mtls": {
        "confluent": (
            '"security.protocol": "SSL"',
            '"ssl.certificate.location": CERTIFICATE_AND_KEY',
            '"ssl.key.location": CERTIFICATE_AND_KEY',
        ),
        "aiokafka": (
            '"security_protocol": "SSL"',
            '"ssl_context": create_ssl_context(cafile=CA, certfile=CERTIFICATE_AND_KEY)',
        ),
        "kafka_python": (
            '"security_protocol": "SSL"',
            '"ssl_certfile": CERTIFICATE_AND_KEY',
            '"ssl_keyfile": CERTIFICATE_AND_KEY',
        ),
    },
}
_TITLES = {"iam": "IAM", "scram": "SASL/SCRAM", "plain": "SASL/PLAIN", "mtls": "mutual TLS"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """What a configuration of one mechanism is made of; paths are absolute."""

    mechanism: Mechanism
    servers: str
    region: str
    ca_file: Path
    certificate_file: Path
    kept: KeptSecrets = field(repr=False)

    def files(self) -> Iterator[tuple[str, str]]:
        """The files' names and texts."""
        texts = [_lines(self._librdkafka()), _lines(self._java()), self._python()]
        if self.mechanism == "iam":
            texts.append(_lines(self._environment()))
        yield from zip(file_names(self.mechanism), texts, strict=True)

    @property
    def summary(self) -> Mapping[str, str]:
        """The few settings that matter, in librdkafka's names and without a secret."""
        return dict(self._protocol())

    def _protocol(self) -> Iterator[tuple[str, str]]:
        yield "security.protocol", "SSL" if self.mechanism == "mtls" else "SASL_SSL"
        if self.mechanism != "mtls":
            yield "sasl.mechanism", _SASL_NAMES[self.mechanism]

    def _librdkafka(self) -> Iterator[str]:
        yield f"bootstrap.servers={self.servers}"
        yield f"ssl.ca.location={self.ca_file}"
        match self.mechanism:
            case "iam":
                yield "security.protocol=SASL_SSL"
                yield _NO_SIGNING
                yield "sasl.mechanism=OAUTHBEARER"
            case "mtls":
                yield "security.protocol=SSL"
                yield f"ssl.certificate.location={self.certificate_file}"
                yield f"ssl.key.location={self.certificate_file}"
            case "scram" | "plain":
                yield from (f"{name}={value}" for name, value in self._protocol())
                yield f"sasl.username={USER_NAME}"
                yield f"sasl.password={self.kept.scram_password}"

    def _java(self) -> Iterator[str]:
        yield f"bootstrap.servers={self.servers}"
        yield from (f"{name}={value}" for name, value in self._protocol())
        yield "ssl.truststore.type=PEM"
        yield f"ssl.truststore.location={self.ca_file}"
        match self.mechanism:
            case "iam":
                yield _JAVA_IAM_NEEDS
                yield f"sasl.jaas.config={_JAVA_MODULES['iam']}"
                yield f"sasl.client.callback.handler.class={_JAVA_IAM_HANDLER}"
            case "mtls":
                yield "ssl.keystore.type=PEM"
                yield f"ssl.keystore.location={self.certificate_file}"
            case "scram" | "plain" as name:
                user = f'username="{USER_NAME}" password="{self.kept.scram_password}";'
                yield f"sasl.jaas.config={_JAVA_MODULES[name]}{user}"

    def _python(self) -> str:
        kind = "password" if self.mechanism in ("scram", "plain") else self.mechanism
        sasl = _SASL_NAMES.get(self.mechanism, "")
        options = {
            client: ",\n        ".join(lines).format(sasl=sasl) + ","
            for client, lines in _PYTHON_OPTIONS[kind].items()
        }
        return _PYTHON.format(
            title=_TITLES[self.mechanism],
            file=f"{self.mechanism}_python.py",
            servers=json.dumps(self.servers),
            ca=json.dumps(str(self.ca_file)),
            constants=self._constants(kind),
            check=_CREDENTIALS_CHECK if kind == "iam" else "",
            **options,
        )

    def _constants(self, kind: str) -> str:
        if kind == "iam":
            return _PYTHON_SIGNING.format(region=json.dumps(self.region))
        if kind == "mtls":
            return _PYTHON_CERTIFICATE.format(client=json.dumps(str(self.certificate_file)))
        return _PYTHON_CREDENTIALS.format(
            username=json.dumps(USER_NAME), password=json.dumps(self.kept.scram_password)
        )

    def _environment(self) -> Iterator[str]:
        yield f"# The access key of the IAM user {USER_NAME}; for a shell: . iam.env"
        yield f"export AWS_ACCESS_KEY_ID={self.kept.access_key_id}"
        yield f"export AWS_SECRET_ACCESS_KEY={self.kept.secret_access_key}"
        yield f"export AWS_REGION={self.region} AWS_DEFAULT_REGION={self.region}"
        yield "unset AWS_SESSION_TOKEN AWS_PROFILE"


def file_names(mechanism: Mechanism) -> tuple[str, ...]:
    """The files of one mechanism: librdkafka's, Java's, Python's, and the shell's where there is one."""
    names = (f"{mechanism}.librdkafka.properties", f"{mechanism}.java.properties", f"{mechanism}_python.py")
    return (*names, "iam.env") if mechanism == "iam" else names


def _lines(lines: Iterator[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
