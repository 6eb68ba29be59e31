"""A mapping's batches in each language's own library for Kafka events, partial batch responses included."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Bench
from tests.e2e.test_semantics import PROVISIONED, covered
from tests.harness.contract.cases import go_program, java_classes, java_libraries, locked, require, zipped
from tests.harness.processes import wait_until
from tests.harness.stack import ACCOUNT
from tests.oracles.apache_kafka import CACHE

# The first run fetches and compiles what it needs.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

HANDLERS = Path(__file__).parent / "handlers"
POWERTOOLS_TYPESCRIPT = "2.35.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """One function as its users pack it."""

    runtime: str
    handler: str
    files: Callable[[], Mapping[str, str | bytes]]
    memory_mb: int = 256


def powertools_python() -> Mapping[str, str | bytes]:
    """The handler with the packages that `pip install --target` would put beside it; boto3's are Lambda's."""
    files: dict[str, str | bytes] = {"orders.py": (HANDLERS / "orders.py").read_bytes()}
    for name in ("aws-lambda-powertools", "typing-extensions"):
        for file in distribution(name).files or []:
            if file.suffix == ".py":
                files[str(file)] = Path(str(file.locate())).read_bytes()
    return files


def powertools_typescript() -> Mapping[str, str | bytes]:
    """The handler with the node_modules that npm installs, without a bundler."""
    modules = _npm(f"@aws-lambda-powertools/kafka@{POWERTOOLS_TYPESCRIPT}")
    files: dict[str, str | bytes] = {"orders.mjs": (HANDLERS / "orders.mjs").read_bytes()}
    for file in modules.rglob("*"):
        if file.is_file() and file.suffix in (".js", ".json", ".mjs", ".cjs"):
            files[str(Path("node_modules") / file.relative_to(modules))] = file.read_bytes()
    return files


@functools.cache
def _npm(package: str) -> Path:
    """The node_modules folder of a package and what it needs, fetched once."""
    require("npm")
    folder = CACHE / "npm" / package.replace("/", "-")
    with locked(folder):
        if not (folder / ".complete").exists():
            command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), package]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            if done.returncode != 0 and not os.environ.get("CI"):
                pytest.skip(f"npm could not install {package}: {done.stderr[-300:]}")
            assert done.returncode == 0, done.stderr[-1000:]
            (folder / ".complete").touch()
    return folder / "node_modules"


def java() -> Mapping[str, str | bytes]:
    """Classes, and in lib/ the jars that Lambda does not bring."""
    jars = [jar for jar in java_libraries() if jar.name.startswith(("aws-lambda-java-events", "joda-time"))]
    return {**java_classes(HANDLERS / "Orders.java"), **{f"lib/{jar.name}": jar.read_bytes() for jar in jars}}


def go() -> Mapping[str, str | bytes]:
    """A program that is linked statically."""
    return {"bootstrap": go_program(HANDLERS).read_bytes()}


LANGUAGES = {
    "powertools-python": Language(
        runtime=f"python{sys.version_info[0]}.{sys.version_info[1]}",
        handler="orders.handler",
        files=powertools_python,
    ),
    "powertools-typescript": Language(
        runtime="nodejs20.x", handler="orders.handler", files=powertools_typescript
    ),
    "java-events": Language(runtime="java17", handler="orders.Orders", files=java, memory_mb=512),
    "go-events": Language(runtime="provided.al2023", handler="bootstrap", files=go),
}


def create(bench: Bench, language: Language) -> None:
    bench.stack.functions_client.create_function(
        FunctionName=bench.name,
        Runtime=language.runtime,
        Handler=language.handler,
        Role=f"arn:aws:iam::{ACCOUNT}:role/any",
        Timeout=40,
        MemorySize=language.memory_mb,
        Environment={"Variables": {"PROOF_DIR": str(bench.proof.directory)}},
        Code={"ZipFile": zipped(language.files())},
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_processes_batches_and_names_what_failed(bench: Bench, language: str) -> None:
    """The record that a handler names of each partition goes to the queue alone; all others are processed."""
    create(bench, LANGUAGES[language])
    queue_arn = bench.stack.create_queue(bench.name)
    for partition in range(bench.partitions):
        orders = [{"order": n, "é": None, "poison": n == 5 + partition} for n in range(20)]
        bench.produce([(f"é-{n % 5}", json.dumps(row)) for n, row in enumerate(orders)], partition=partition)
    bench.flush()
    bench.stack.create_mapping(
        bench.name,
        bench.name,
        BatchSize=20,
        MaximumBatchingWindowInSeconds=1,
        MaximumRetryAttempts=1,
        ProvisionedPollerConfig=PROVISIONED,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        DestinationConfig={"OnFailure": {"Destination": queue_arn}},
    )
    poison = {at for at, (_, value) in bench.acknowledged.items() if json.loads(value)["poison"]}
    bench.wait_until_done(set(bench.acknowledged) - poison)
    failures: list[dict[str, Any]] = []

    def all_failed() -> bool:
        failures.extend(bench.stack.received(bench.name))
        return len(failures) >= len(poison)

    wait_until(all_failed, timeout_s=60, what=f"{len(poison)} failure records\n{bench.stack.logs()}")
    assert sorted(at for failure in failures for at in covered(failure)) == sorted(poison)
    assert bench.proof.offsets_done(bench.name) == set(bench.acknowledged) - poison
    for partition in range(bench.partitions):
        for offset, key, value in bench.proof.done(f"{bench.name}-{partition}"):
            assert bench.acknowledged[partition, offset] == (key, value)
