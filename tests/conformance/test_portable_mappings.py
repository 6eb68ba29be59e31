"""What `export` writes, applied by the tool that it is for, makes an equal mapping; so does `import`."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.deploying import AWS_CLI, Target
from tests.harness.processes import wait_until
from tests.oracles.deploy_tools import cdk, had_or_skip, terraform_mirror

QUEUE = "arn:aws:sqs:us-east-1:123456789012:portable"
PROVIDER = 'provider "aws" {\n  skip_metadata_api_check = true\n}\n'
# The mapping's own, and those of the moment.
OWN = {"UUID", "EventSourceMappingArn", "LastModified", "LastProcessingResult", "ResponseMetadata"}
PROVISIONED: dict[str, Any] = {
    "BatchSize": 7,
    "BisectBatchOnFunctionError": True,
    "DestinationConfig": {"OnFailure": {"Destination": QUEUE}},
    "Enabled": False,
    "FilterCriteria": {
        "Filters": [
            {"Pattern": '{"value":{"name":["it\'s ${a} %{b}"]}}'},
            {"Pattern": '{"value":{"size":[1]}}'},
        ]
    },
    "FunctionResponseTypes": ["ReportBatchItemFailures"],
    "MaximumBatchingWindowInSeconds": 0,
    "MaximumRecordAgeInSeconds": 3600,
    "MaximumRetryAttempts": 3,
    "ProvisionedPollerConfig": {"MinimumPollers": 1, "MaximumPollers": 2},
    "StartingPosition": "AT_TIMESTAMP",
    "StartingPositionTimestamp": 1_700_000_000,
    "Tags": {"team": "a: b @c", "yes": "0123"},
}
ON_DEMAND: dict[str, Any] = {"Enabled": False, "StartingPosition": "LATEST"}
NETWORK = [
    {"Type": "VPC_SUBNET", "URI": "subnet:subnet-1"},
    {"Type": "VPC_SUBNET", "URI": "subnet:subnet-2"},
    {"Type": "VPC_SECURITY_GROUP", "URI": "security_group:sg-1"},
]


@pytest.fixture
def name(target: Target, tmp_path: Path) -> Iterator[str]:
    """A function of this name, and what a test has deployed under it taken away."""
    found = f"portable-{uuid.uuid4().hex[:8]}"
    (tmp_path / "app.py").write_text("def handler(event, context):\n    return None\n")
    target.up.cli("function", "register", found, f"{tmp_path / 'app.py'}:handler")
    yield found
    client = target.up.client("lambda")
    for each in client.list_event_source_mappings(FunctionName=found)["EventSourceMappings"]:
        gone(target, each["UUID"])
    target.up.cli("function", "delete", found)


def mapping(target: Target, name: str, kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Create a mapping; Lambda's reply once it is settled, with its tags."""
    sources: dict[str, dict[str, Any]] = {
        "msk": {
            "EventSourceArn": target.cluster_arn,
            "AmazonManagedKafkaEventSourceConfig": {"ConsumerGroupId": name},
        },
        "self-managed": {
            "SelfManagedEventSource": {
                "Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["a.example:9092", "b.example:9092"]}
            },
            "SelfManagedKafkaEventSourceConfig": {"ConsumerGroupId": name},
            "SourceAccessConfigurations": NETWORK,
        },
    }
    made = target.up.client("lambda").create_event_source_mapping(
        FunctionName=name, Topics=[name], **(sources[kind] | settings)
    )
    return settled(target, made["UUID"])


def settled(target: Target, uuid_: str) -> dict[str, Any]:
    client = target.up.client("lambda")

    def found() -> dict[str, Any] | None:
        reply: dict[str, Any] = client.get_event_source_mapping(UUID=uuid_)
        return reply if reply["State"] in {"Enabled", "Disabled"} else None

    reply = wait_until(found, timeout_s=40, what="the mapping to be settled")
    return reply | {"Tags": client.list_tags(Resource=reply["EventSourceMappingArn"])["Tags"]}


def gone(target: Target, uuid_: str) -> None:
    client = target.up.client("lambda")
    client.delete_event_source_mapping(UUID=uuid_)

    def is_gone() -> bool:
        try:
            client.get_event_source_mapping(UUID=uuid_)
        except client.exceptions.ResourceNotFoundException:
            return True
        return False

    wait_until(is_gone, timeout_s=40, what="the mapping to be gone")


def the_one_of(target: Target, name: str) -> dict[str, Any]:
    client = target.up.client("lambda")
    [found] = client.list_event_source_mappings(FunctionName=name)["EventSourceMappings"]
    return settled(target, found["UUID"])


def portable(reply: dict[str, Any], *but: str) -> dict[str, Any]:
    """What two equal mappings have in common; tags that a stack adds are the stack's."""
    found = {key: value for key, value in reply.items() if key not in {*OWN, *but}}
    if "Tags" in found:
        found["Tags"] = {key: value for key, value in found["Tags"].items() if not key.startswith("aws:")}
    return found


def patterns(reply: dict[str, Any]) -> set[str]:
    return {one["Pattern"] for one in reply.get("FilterCriteria", {}).get("Filters", [])}


def with_cli(target: Target, folder: Path, written: str, _name: str) -> None:
    (folder / "create.sh").write_text(written)
    target.run(["sh", "create.sh"], folder, {"PATH": f"{Path(AWS_CLI).parent}:{os.environ['PATH']}"})


def with_cloudformation(target: Target, _folder: Path, written: str, name: str) -> None:
    client = target.up.client("cloudformation")
    client.create_stack(StackName=name, TemplateBody=written)

    def state() -> str | None:
        found = str(client.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"])
        return None if found.endswith("IN_PROGRESS") else found

    assert wait_until(state, timeout_s=40, what=f"stack {name} to end") == "CREATE_COMPLETE"


def with_terraform(target: Target, folder: Path, written: str, _name: str) -> None:
    mirror = had_or_skip(terraform_mirror)
    (folder / "main.tf").write_text(PROVIDER + written)
    (folder / "terraform.rc").write_text(
        f'provider_installation {{ filesystem_mirror {{ path = "{mirror}" }} }}\n'
    )
    environ = {"TF_CLI_CONFIG_FILE": str(folder / "terraform.rc"), "CHECKPOINT_DISABLE": "1"}
    target.run(["terraform", "init", "-input=false", "-no-color"], folder, environ)
    target.run(["terraform", "apply", "-auto-approve", "-input=false", "-no-color"], folder, environ)
    target.run(["terraform", "plan", "-detailed-exitcode", "-input=false", "-no-color"], folder, environ)


def with_cdk(target: Target, folder: Path, written: str, name: str) -> None:
    """The CDK writes a template of the program, and the stack makes the mapping."""
    packages = had_or_skip(cdk)
    (folder / "node_modules").symlink_to(packages / "node_modules")
    (folder / "app.mjs").write_text(written)  # it is JavaScript too
    target.run(["node", "app.mjs"], folder, {"CDK_OUTDIR": str(folder / "out")})
    [template] = (folder / "out").glob("*.template.json")
    resources = {
        key: value
        for key, value in json.loads(template.read_text())["Resources"].items()
        if value["Type"] == "AWS::Lambda::EventSourceMapping"
    }
    with_cloudformation(target, folder, json.dumps({"Resources": resources}), name)


Apply = Callable[[Target, Path, str, str], None]
TOOLS: dict[str, Apply] = {
    "cli": with_cli,
    "cloudformation": with_cloudformation,
    "terraform": with_terraform,
    "cdk": with_cdk,
}
MAPPINGS = {
    "provisioned": ("msk", PROVISIONED),
    "self-managed": ("self-managed", ON_DEMAND),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", MAPPINGS)
@pytest.mark.parametrize("form", TOOLS)
def test_an_exported_mapping_applied_by_its_tool_is_equal(
    target: Target, tmp_path: Path, name: str, form: str, kind: str
) -> None:
    before = mapping(target, name, *MAPPINGS[kind])
    written = target.up.cli("export", name, "--as", form)
    gone(target, before["UUID"])

    TOOLS[form](target, tmp_path, written, name)

    after = the_one_of(target, name)
    assert after["UUID"] != before["UUID"]
    # The provider keeps filters as a set, and does not send a window of 0: `export` says so.
    lost = ("MaximumBatchingWindowInSeconds", "FilterCriteria") if form == "terraform" else ()
    assert portable(after, *lost) == portable(before, *lost)
    assert patterns(after) == patterns(before)


@pytest.mark.timeout(600)
def test_a_sam_template_deploys_the_function_with_an_equal_mapping(
    target: Target, tmp_path: Path, name: str
) -> None:
    target.up.client("s3").create_bucket(Bucket=name)
    before = mapping(target, name, "msk", PROVISIONED)
    (tmp_path / "template.yaml").write_text(
        target.up.cli("export", before["UUID"][:13], "--as", "sam", "--function", f"{name}-sam")
    )
    gone(target, before["UUID"])

    package = ["--template-file", "template.yaml", "--s3-bucket", name, "--output-template-file", "out.yaml"]
    # Version 1 of the AWS CLI takes the one endpoint for all services from the option only.
    at = ["--endpoint-url", target.up.ready["endpoint_url"]]
    target.run([AWS_CLI, "cloudformation", "package", *package, *at], tmp_path)
    deploy = ["--template-file", "out.yaml", "--stack-name", name, "--capabilities", "CAPABILITY_IAM"]
    target.run([AWS_CLI, "cloudformation", "deploy", *deploy, "CAPABILITY_AUTO_EXPAND", *at], tmp_path)

    after = the_one_of(target, f"{name}-sam")
    client = target.up.client("cloudformation")
    client.delete_stack(StackName=name)
    wait_until(lambda: name not in target.stacks(), timeout_s=40, what=f"{name} to be deleted")
    assert portable(after, "FunctionArn", "Tags") == portable(before, "FunctionArn", "Tags")


@pytest.mark.parametrize("way", ["file", "stdin", "uuid"])
def test_an_imported_mapping_is_equal_but_for_what_is_asked(
    target: Target, tmp_path: Path, name: str, way: str
) -> None:
    """The original is of AWS: of another account, whose function and cluster have other ARNs."""
    # Beside its original, in one cluster, a mapping cannot have the same group.
    own: dict[str, Any] = {"AmazonManagedKafkaEventSourceConfig": {}} if way == "uuid" else {}
    before = mapping(target, name, "msk", PROVISIONED | own)
    tags = [f"--tag={key}={value}" for key, value in PROVISIONED["Tags"].items()]
    start = ["--starting-timestamp", "2023-11-14T22:13:20"]
    if way == "uuid":
        other = f"{name}-other"
        target.up.cli("function", "register", other, f"{tmp_path / 'app.py'}:handler")
        url = target.up.ready["endpoint_url"]
        origin = ["--from-uuid", before["UUID"], "--from-endpoint-url", url, "--function", other]
        target.up.cli("import", *origin, *start)
        after = the_one_of(target, other)
        gone(target, after["UUID"])
        target.up.cli("function", "delete", other)
        assert portable(after, "FunctionArn", *own) == portable(before, "FunctionArn", *own)
        return
    get = [AWS_CLI, "lambda", "get-event-source-mapping", "--uuid", before["UUID"], "--output", "json"]
    document = json.loads(target.run(get, tmp_path))
    document["EventSourceArn"] = "arn:aws:kafka:eu-west-1:111122223333:cluster/prod/0a-1"
    document["FunctionArn"] = f"arn:aws:lambda:eu-west-1:111122223333:function:{name}"
    gone(target, before["UUID"])
    file = tmp_path / "mapping.json"
    file.write_text(json.dumps({"EventSourceMappings": [document]} if way == "file" else document))

    source = {"file": str(file), "stdin": "-"}[way]
    target.up.cli("import", "--file", source, *start, *tags, stdin=file.read_text())

    assert portable(the_one_of(target, name)) == portable(before)


def test_what_a_dry_run_prints_creates_what_the_import_would(
    target: Target, tmp_path: Path, name: str
) -> None:
    """It begins at the moment of the import, which is in the command."""
    before = mapping(target, name, "self-managed", ON_DEMAND)
    get = [AWS_CLI, "lambda", "get-event-source-mapping", "--uuid", before["UUID"], "--output", "json"]
    document = json.loads(target.run(get, tmp_path))
    gone(target, before["UUID"])
    asked = json.dumps(document | {"MetricsConfig": {"Metrics": ["EventCount"]}})

    written = target.up.cli("import", "--file", "-", "--dry-run", stdin=asked)

    assert "MetricsConfig" not in written
    assert (
        target.up.client("lambda").list_event_source_mappings(FunctionName=name)["EventSourceMappings"] == []
    )
    with_cli(target, tmp_path, written, name)
    after = the_one_of(target, name)
    assert after["StartingPosition"] == "AT_TIMESTAMP"
    servers = after["SelfManagedEventSource"]["Endpoints"]["KAFKA_BOOTSTRAP_SERVERS"]
    assert servers == target.bootstrap_servers.split(",")
    same = ("StartingPosition", "StartingPositionTimestamp", "SelfManagedEventSource")
    assert portable(after, *same) == portable(before, *same)


def test_what_is_not_kept_is_listed(target: Target, tmp_path: Path, name: str) -> None:
    arn = "arn:aws:kafka:eu-west-1:111122223333:cluster/prod/0a-1"
    secret = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:AmazonMSK_prod"
    registry = {"SchemaRegistryURI": "https://registry", "EventRecordFormat": "JSON"}
    kafka = {
        "UUID": "0a0a0a0a-0000-4000-8000-000000000000",
        "FunctionArn": f"arn:aws:lambda:eu-west-1:111122223333:function:{name}",
        "EventSourceArn": arn,
        "Topics": [name],
        "KMSKeyArn": "arn:aws:kms:eu-west-1:111122223333:key/k",
        "SourceAccessConfigurations": [{"Type": "SASL_SCRAM_512_AUTH", "URI": secret}],
        "AmazonManagedKafkaEventSourceConfig": {"SchemaRegistryConfig": registry},
        "StartingPosition": "TRIM_HORIZON",
    }
    queue = {"UUID": "q", "EventSourceArn": "arn:aws:sqs:eu-west-1:111122223333:q", "FunctionArn": "f"}
    file = tmp_path / "all.json"
    file.write_text(json.dumps([queue, kafka]))
    program = str(Path(AWS_CLI).with_name("tidemill"))

    said = subprocess.run(
        [program, "import", "--file", str(file), "--dry-run"],
        env=target.environ,
        capture_output=True,
        text=True,
        check=True,
    ).stderr

    lines = said.splitlines()
    for wanted in (
        "not kept: mapping q of arn:aws:sqs:eu-west-1:111122223333:q",
        "not kept: KMSKeyArn",
        "not kept: SchemaRegistryConfig",
        "not kept: Tags",
        "not kept: FilterCriteria, which are encrypted",
        f"changed: EventSourceArn {arn} is {target.cluster_arn} here",
        "changed: SourceAccessConfigurations",
        "changed: StartingPosition TRIM_HORIZON is AT_TIMESTAMP here",
    ):
        assert any(line.startswith(wanted) for line in lines), (wanted, lines)


def test_a_function_that_is_not_here_is_named_with_the_fix(target: Target, name: str) -> None:
    before = mapping(target, name, "msk", ON_DEMAND)
    url = target.up.ready["endpoint_url"]
    origin = ["--from-uuid", before["UUID"], "--from-endpoint-url", url]

    said = target.up.cli("import", *origin, "--function", "nowhere", status=1)

    assert "error: There is no function 'nowhere' here." in said
    assert "tidemill function register" in said
