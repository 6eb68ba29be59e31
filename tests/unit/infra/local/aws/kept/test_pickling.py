"""Values of the embedded AWS as bytes: data comes back, code does not."""

from __future__ import annotations

import importlib
import os
import pickle
import threading
from collections import defaultdict

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tidemill_local.aws.kept.pickling import Unkeepable, decode, encode


def test_data_comes_back_as_it_was() -> None:
    value = {"a": [1, (b"x", None)], "b": defaultdict(dict, {"k": {"n": 1}}), "c": {1, 2}}
    found = decode(encode(value))
    assert found == value
    assert found["b"]["new"] == {}


def test_a_private_key_comes_back() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    [found] = decode(encode([key]))
    assert found.private_numbers() == key.private_numbers()


def test_what_is_no_data_is_left_out_of_its_dictionary() -> None:
    assert decode(encode({"name": "x", "lock": threading.Lock()})) == {"name": "x"}
    with pytest.raises(Unkeepable):
        encode([threading.Lock()])


@pytest.mark.parametrize("what", [os.system, os.getenv, pickle.loads, eval])
def test_no_file_can_name_a_function(what: object) -> None:
    with pytest.raises(pickle.UnpicklingError, match="is no data"):
        decode(pickle.dumps(what))


def test_no_file_can_name_what_a_module_of_ministack_imports() -> None:
    importlib.import_module("ministack.services.glue")
    named = b"\x80\x04\x8c\x17ministack.services.glue\x8c\x10subprocess.Popen\x93."
    with pytest.raises(pickle.UnpicklingError, match="is no data"):
        decode(named)
