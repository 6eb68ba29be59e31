"""Where `up` listens: on this machine alone, unless its user says that others may reach it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tidemill_local.programs import Programs
from tidemill_local.settings import check_host, read_settings


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1"), ("127.8.9.1", "127.8.9.1")],
)
def test_a_loopback_address_needs_no_word(host: str, address: str) -> None:
    assert check_host(host, expose=False) == address


@pytest.mark.parametrize("host", ["10.0.0.5", "192.168.1.7", "8.8.8.8"])
def test_an_address_that_others_reach_needs_expose(host: str) -> None:
    assert check_host(host, expose=True) == host
    with pytest.raises(
        ValueError, match=f"^{host} would let everybody who reaches it run code as you.*--expose"
    ):
        check_host(host, expose=False)


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("0.0.0.0", "takes the address of one interface"),
        ("::1", "an IPv4 address"),
        ("my-host", "an IPv4 address"),
    ],
)
def test_what_clients_could_not_connect_to_is_rejected_even_with_expose(host: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_host(host, expose=True)


def test_only_kafka_and_the_endpoint_listen_on_the_host(tmp_path: Path) -> None:
    settings = read_settings(data_dir=tmp_path, host="10.0.0.5", environ={})
    programs = Programs(settings, "http://10.0.0.5:4580", 7)
    for name in ("aws", "functions", "poller"):
        programs.ready[name] = {"port": 1}
    programs.ready["broker"] = {"port": 1, "control_port": 2}
    hosts = {
        name: dict(pairwise(arguments)).get("--host", "127.0.0.1")
        for name in ("aws", "functions", "poller", "broker")
        for arguments in [programs.command(name).arguments]
    }
    assert settings.exposed
    assert hosts == {**dict.fromkeys(("aws", "functions", "poller"), "127.0.0.1"), "broker": "10.0.0.5"}
    assert programs.url("broker", "control_port") == "http://10.0.0.5:2"
