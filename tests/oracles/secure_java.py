"""Apache Kafka's own tools, told how to log in: by SCRAM, PLAIN, a certificate, or AWS's aws-msk-iam-auth.

Owns the client's properties file and the extra jar, which Maven fetches once into `.cache/` (13 MB).
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.oracles.apache_kafka import fetched, run_tool
from tests.oracles.secure_clients import Login

MSK_IAM_AUTH_VERSION = "2.3.6"
TOOLS = "org.apache.kafka.tools."
# So that one refused login is the end of it.
_IMPATIENT = {"max.block.ms": "15000", "request.timeout.ms": "15000", "default.api.timeout.ms": "15000"}
_LOGIN_MODULES = {
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
}
# https://github.com/aws/aws-msk-iam-auth, "Configuring a Kafka client to use AWS IAM"
_AWS_MSK_IAM = {
    "sasl.jaas.config": "software.amazon.msk.auth.iam.IAMLoginModule required;",
    "sasl.client.callback.handler.class": "software.amazon.msk.auth.iam.IAMClientCallbackHandler",
}
_AWS_OAUTHBEARER = {
    "sasl.jaas.config": "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;",
    "sasl.login.callback.handler.class": "software.amazon.msk.auth.iam.IAMOAuthBearerLoginCallbackHandler",
    "sasl.client.callback.handler.class": "software.amazon.msk.auth.iam.IAMOAuthBearerLoginCallbackHandler",
}


def msk_iam_auth_jar() -> Path:
    """The folder of AWS's jar with all that it needs inside. Raises ApacheKafkaMissing."""
    return fetched(f"aws-msk-iam-auth-{MSK_IAM_AUTH_VERSION}-all", _pom())


def _pom() -> str:
    everything = "<exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion>"
    return (
        "<project><modelVersion>4.0.0</modelVersion><groupId>tidemill</groupId><artifactId>oracle</artifactId>"
        "<version>1</version><dependencies><dependency><groupId>software.amazon.msk</groupId>"
        f"<artifactId>aws-msk-iam-auth</artifactId><version>{MSK_IAM_AUTH_VERSION}</version>"
        f"<classifier>all</classifier><exclusions>{everything}</exclusions></dependency></dependencies></project>"
    )


def properties(login: Login) -> dict[str, str]:
    """A login as a Java client's configuration."""
    how = {
        **_IMPATIENT,
        "security.protocol": login.protocol,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": login.ca,
    }
    if login.certificate:
        how |= {"ssl.keystore.type": "PEM", "ssl.keystore.location": login.certificate}
    if login.mechanism == "SSL":
        return how
    how["sasl.mechanism"] = login.mechanism
    if login.mechanism == "AWS_MSK_IAM":
        return how | _AWS_MSK_IAM
    if login.mechanism == "OAUTHBEARER":
        return how | _AWS_OAUTHBEARER
    module = _LOGIN_MODULES[login.mechanism]
    return how | {
        "sasl.jaas.config": f'{module} required username="{login.user}" password="{login.password}";'
    }


def run_as(
    login: Login, folder: Path, main_class: str, *arguments: str, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one of Kafka's tools; its configuration is written into the folder."""
    configuration = folder / "client.properties"
    configuration.write_text(
        "".join(f"{name}={_escaped(value)}\n" for name, value in properties(login).items())
    )
    return run_tool(
        f"{TOOLS}{main_class}",
        "--command-config",
        str(configuration),
        *arguments,
        stdin=stdin,
        more_jars=msk_iam_auth_jar() if login.keys else None,
        environment=login.keys.environment() if login.keys else None,
    )


def _escaped(value: str) -> str:
    """A value as java.util.Properties reads it."""
    return "".join(char if char.isascii() else f"\\u{ord(char):04x}" for char in value.replace("\\", "\\\\"))
