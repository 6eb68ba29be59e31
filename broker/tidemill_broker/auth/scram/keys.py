"""What a SCRAM password becomes: a salt, two keys and a count of iterations; the password is kept nowhere.

Pure arithmetic of RFC 5802 section 3. Passwords are taken as UTF-8 and not prepared by SASLprep, as Kafka's
brokers and every Kafka client take them.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

ScramName = Literal["SCRAM-SHA-256", "SCRAM-SHA-512"]

SCRAM_NAMES: Final[tuple[ScramName, ...]] = get_args(ScramName)
HASHES: Final[Mapping[ScramName, str]] = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
# Kafka: ScramMechanism.minIterations and ScramControlManager.MAX_ITERATIONS.
ITERATIONS_MIN: Final = 4096
ITERATIONS_MAX: Final = 16_384
SALT_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ScramCredential:
    """What proves and checks a password by one mechanism, without telling it."""

    salt: bytes = field(repr=False)
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


def digest(mechanism: ScramName, message: bytes) -> bytes:
    """H of RFC 5802."""
    return hashlib.new(HASHES[mechanism], message).digest()


def keyed(mechanism: ScramName, key: bytes, message: bytes) -> bytes:
    """HMAC of RFC 5802."""
    return hmac.digest(key, message, HASHES[mechanism])


def salted_password(mechanism: ScramName, password: str, salt: bytes, iterations: int) -> bytes:
    """Hi of RFC 5802: milliseconds of work, during which other threads run."""
    return hashlib.pbkdf2_hmac(HASHES[mechanism], password.encode(), salt, iterations)


def credential_of(mechanism: ScramName, salted: bytes, *, salt: bytes, iterations: int) -> ScramCredential:
    """Turn a salted password into what is stored."""
    return ScramCredential(
        salt=salt,
        iterations=iterations,
        stored_key=digest(mechanism, keyed(mechanism, salted, b"Client Key")),
        server_key=keyed(mechanism, salted, b"Server Key"),
    )


def derive(mechanism: ScramName, password: str) -> ScramCredential:
    """Salt a new password."""
    salt = secrets.token_bytes(SALT_BYTES)
    salted = salted_password(mechanism, password, salt, ITERATIONS_MIN)
    return credential_of(mechanism, salted, salt=salt, iterations=ITERATIONS_MIN)


def matches(mechanism: ScramName, credential: ScramCredential, password: str) -> bool:
    """Tell whether this is the password; it takes as long as salting one."""
    salted = salted_password(mechanism, password, credential.salt, credential.iterations)
    found = credential_of(mechanism, salted, salt=credential.salt, iterations=credential.iterations)
    return hmac.compare_digest(found.stored_key, credential.stored_key)
