"""--listener and --tls-dir: which listeners are on, on which ports, and what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemill_broker.__main__ import _parser, _settings
from tidemill_broker.auth.assembly import assemble
from tidemill_broker.commands import init_tls
from tidemill_broker.settings import Settings, SettingsError


def settings(*arguments: str) -> Settings:
    return _settings(_parser().parse_args(arguments), {})


@pytest.mark.parametrize(
    ("arguments", "listening"),
    [
        ([], {"plaintext": 9092}),
        (["--port", "0"], {"plaintext": 0}),
        (["--listener", "plaintext", "--port", "19092"], {"plaintext": 19092}),
        (["--listener", "tls"], {"tls": 9094}),
        (["--listener", "scram", "--listener", "IAM"], {"scram": 9096, "iam": 9098}),
        (["--listener", "tls=0", "--listener", "plaintext=19092"], {"tls": 0, "plaintext": 19092}),
    ],
)
def test_listeners_are_those_that_are_named_on_msks_ports(
    arguments: list[str], listening: dict[str, int]
) -> None:
    assert settings(*arguments).listening == listening


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--listener", "ssl=9094"], "no listener 'ssl': give one of plaintext, tls, scram, iam"),
        (["--listener", "tls=port"], "'port' is no port: give 0 to 65535"),
        (["--listener", "tls=65536"], "'65536' is no port"),
        (["--listener", "tls=-1"], "'-1' is no port"),
        (["--listener", "tls="], "'' is no port"),
        (["--listener", "tls", "--listener", "tls=0"], "tls is given twice"),
        (["--listener", "tls=9094", "--listener", "iam=9094"], "port 9094 is given twice"),
        (["--listener", "tls=9094", "--control-port", "9094"], "port 9094 is given twice"),
        (["--port", "70000"], "70000 is no port"),
        (
            ["--listener", "tls=0", "--listener", "iam=0", "--host", "0.0.0.0"],
            "advertised.listeners=TLS://host:port,IAM://host:port",
        ),
        (
            ["--listener", "scram=0", "--set", "advertised.listeners=SCRAM://a:1,TLS://a:2"],
            "advertised.listeners names TLS, which is not on: add --listener tls, or leave it out",
        ),
    ],
)
def test_listeners_that_cannot_be_are_told_with_their_fix(arguments: list[str], said: str) -> None:
    with pytest.raises(SettingsError) as raised:
        settings(*arguments)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "warned"),
    [
        ([], ""),
        (["--listener=scram"], ""),
        (["--listener=tls"], "(listeners: tls)"),
        (["--listener=iam", "--listener=tls", "--listener=plaintext"], "(listeners: tls, plaintext)"),
        (["--listener=tls", "--set=ssl.client.auth=required"], ""),
        (["--listener=tls", "--set=ssl.client.auth=none"], "(listeners: tls)"),
        (["--listener=tls", "--set=allow.everyone.if.no.acl.found=false"], ""),
    ],
)
def test_who_may_come_in_without_a_name_is_told_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, arguments: list[str], warned: str
) -> None:
    init_tls.main([str(tmp_path)])
    asked = settings(*arguments, f"--tls-dir={tmp_path}", f"--data-dir={tmp_path}")
    assemble(asked, cluster_arn="arn:aws:kafka:us-east-1:123456789012:cluster/c/u-1", now_ms=lambda: 0)
    told = [line for line in caplog.messages if "User:ANONYMOUS" in line]
    assert len(told) == bool(warned)
    assert warned in "".join(told)


def test_any_address_is_listened_on_where_clients_are_told_another() -> None:
    advertised = "--set=advertised.listeners=PLAINTEXT://a:1,TLS://b:2"
    found = settings("--host", "0.0.0.0", "--listener", "plaintext", "--listener", "tls", advertised)
    assert (found.advertised("plaintext"), found.advertised("tls")) == (("a", 1), ("b", 2))


def test_at_the_start_only_hosts_of_tls_listeners_must_be_named_by_the_certificate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    init_tls.main([str(tmp_path)])
    advertised = "--set=advertised.listeners=PLAINTEXT://a:1,TLS://b.example:2,IAM://localhost:3"
    listeners = ("--listener=plaintext", "--listener=tls", "--listener=scram", "--listener=iam")
    asked = settings(*listeners, advertised, f"--tls-dir={tmp_path}", f"--data-dir={tmp_path}")
    assemble(asked, cluster_arn="arn:aws:kafka:us-east-1:123456789012:cluster/c/u-1", now_ms=lambda: 0)
    (line,) = [line for line in caplog.messages if "told to connect to" in line]
    assert line.startswith("clients of tls are told to connect to b.example, which the certificate in ")
