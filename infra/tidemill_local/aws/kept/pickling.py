"""Owns how ministack's values become bytes and values again: pickles that can name few classes.

A private key of the library cryptography becomes PEM. What cannot be pickled, such as a lock, is left out of
the dictionary that holds it.
"""

import io
import pickle
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

_PRIVATE_KEYS: Final = (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)
_SAFE: Final = frozenset(
    {
        *(("builtins", name) for name in ("set", "frozenset", "bytearray", "complex", "dict", "list", "int")),
        *(("collections", name) for name in ("defaultdict", "OrderedDict", "deque", "Counter")),
        *(("datetime", name) for name in ("datetime", "date", "time", "timedelta", "timezone")),
        ("decimal", "Decimal"),
        ("uuid", "UUID"),
        ("_codecs", "encode"),
    }
)


class Unkeepable(Exception):
    """A value that is no data."""


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        """Name a private key by its PEM."""
        if isinstance(obj, _PRIVATE_KEYS):
            return obj.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return None


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, pid: Any) -> Any:
        """Return the private key of a PEM."""
        return load_pem_private_key(pid, password=None)

    def find_class(self, module_name: str, global_name: str) -> Any:
        """Return a class of data; anything else would be code in a file."""
        if (module_name, global_name) in _SAFE:
            return super().find_class(module_name, global_name)
        found = super().find_class(module_name, global_name) if module_name.startswith("ministack.") else None
        # What a module imports, such as subprocess.Popen, is not of it.
        if isinstance(found, type) and found.__module__ == module_name:
            return found
        raise pickle.UnpicklingError(f"{module_name}.{global_name} is no data")


def encode(value: Any) -> bytes:
    """Return a value's bytes. Raises Unkeepable, and RuntimeError if a thread changes it meanwhile."""
    try:
        return _encode(value)
    except (pickle.PicklingError, TypeError, AttributeError):
        if not isinstance(value, dict):
            raise Unkeepable from None
    return _encode({key: kept for key, kept in list(value.items()) if _can_be_kept(kept)})


def decode(data: bytes) -> Any:
    """Return the value. Raises pickle.UnpicklingError."""
    return _Unpickler(io.BytesIO(data)).load()


def _encode(value: Any) -> bytes:
    try:
        # Four times as fast; private keys are what it cannot.
        return pickle.dumps(value, protocol=5)
    except (pickle.PicklingError, TypeError, AttributeError):
        pass
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=5).dump(value)
    return buffer.getvalue()


def _can_be_kept(value: Any) -> bool:
    try:
        _encode(value)
    except (pickle.PicklingError, TypeError, AttributeError):
        return False
    return True
