"""CloudFormation makes Lambda's resources in Tidemill's programs: made, replaced, rolled back and deleted."""

from __future__ import annotations

import io
import json
import textwrap
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.harness.deploying import Target, failure
from tests.harness.processes import wait_until
from tests.harness.up import running_up

ROLE = "arn:aws:iam::123456789012:role/lambda"
ENDED = ("COMPLETE", "FAILED")
TABLED = """
    import base64, os, boto3
    table = boto3.resource("dynamodb").Table(os.environ["TABLE"])
    def handler(event, context):
        for records in event["records"].values():
            for record in records:
                text = base64.b64decode(record["value"]).decode()
                table.put_item(Item={"id": text, "topic": record["topic"]})
"""
ECHO = "def handler(event, context):\n    return event\n"


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with running_up(tmp_path_factory.mktemp("stacks")) as up:
        yield Target(up=up)


@pytest.fixture
def name() -> str:
    return f"s{uuid.uuid4().hex[:8]}"


def function(source: str = ECHO, **properties: Any) -> dict[str, Any]:
    given = {"Runtime": "python3.11", "Handler": "index.handler", "Role": ROLE, "Timeout": 20}
    code = {"ZipFile": textwrap.dedent(source)}
    return {"Type": "AWS::Lambda::Function", "Properties": given | {"Code": code} | properties}


def mapping(target: Target, topic: str, **properties: Any) -> dict[str, Any]:
    given = {
        "FunctionName": {"Ref": "Orders"},
        "EventSourceArn": target.cluster_arn,
        "Topics": [topic],
        "StartingPosition": "TRIM_HORIZON",
    }
    return {"Type": "AWS::Lambda::EventSourceMapping", "Properties": given | properties}


def template(resources: Mapping[str, Any], **outputs: Any) -> str:
    found = {name: {"Value": value} for name, value in outputs.items()}
    return json.dumps({"Resources": resources, "Outputs": found})


def deploy(target: Target, name: str, body: str, *, update: bool = False) -> str:
    """Create or update a stack; the state in which it ends."""
    client = target.up.client("cloudformation")
    act = client.update_stack if update else client.create_stack
    act(StackName=name, TemplateBody=body, Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"])
    return ended(target, name)


def ended(target: Target, name: str) -> str:
    client = target.up.client("cloudformation")

    def state() -> str | None:
        found = str(client.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"])
        return found if found.endswith(ENDED) else None

    return wait_until(state, what=f"stack {name} to end")


def delete(target: Target, name: str) -> None:
    client = target.up.client("cloudformation")
    client.delete_stack(StackName=name)
    wait_until(lambda: name not in target.stacks(), what=f"{name} to be deleted; {events(target, name)[:4]}")


def events(target: Target, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = target.up.client("cloudformation").describe_stack_events(StackName=name)[
        "StackEvents"
    ]
    return found


def zipped(files: Mapping[str, str]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return packed.getvalue()


def test_every_lambda_type_is_made_with_its_attributes_and_deleted(target: Target, name: str) -> None:
    client = target.up.client("lambda")
    s3 = target.up.client("s3")
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="layer.zip", Body=zipped({"python/shared.py": "NAME = 'layer'\n"}))
    s3.put_object(
        Bucket=name,
        Key="code.zip",
        Body=zipped({"app.py": "import shared\ndef handler(event, context):\n    return shared.NAME\n"}),
    )
    source = {"S3Bucket": name, "S3Key": "code.zip"}
    resources = {
        "Layer": {
            "Type": "AWS::Lambda::LayerVersion",
            "Properties": {
                "Content": {"S3Bucket": name, "S3Key": "layer.zip"},
                "CompatibleRuntimes": ["python3.11"],
            },
        },
        "Orders": function(
            Code=source,
            Handler="app.handler",
            Layers=[{"Ref": "Layer"}],
            MemorySize="256",
            ReservedConcurrentExecutions="3",
            Environment={"Variables": {"LIMIT": 5}},
            Tags=[{"Key": "team", "Value": "a"}],
        ),
        "Version": {"Type": "AWS::Lambda::Version", "Properties": {"FunctionName": {"Ref": "Orders"}}},
        "Live": {
            "Type": "AWS::Lambda::Alias",
            "Properties": {
                "FunctionName": {"Ref": "Orders"},
                "Name": "live",
                "FunctionVersion": {"Fn::GetAtt": ["Version", "Version"]},
            },
        },
        "Permission": {
            "Type": "AWS::Lambda::Permission",
            "Properties": {
                "FunctionName": {"Ref": "Live"},
                "Action": "lambda:InvokeFunction",
                "Principal": "sns.amazonaws.com",
            },
        },
        "Events": {
            "Type": "AWS::Lambda::EventInvokeConfig",
            "Properties": {
                "FunctionName": {"Ref": "Orders"},
                "Qualifier": "$LATEST",
                "MaximumRetryAttempts": "1",
            },
        },
        "Mapping": mapping(
            target, name, BatchSize="7", Enabled="false", Tags=[{"Key": "team", "Value": "a"}]
        ),
    }
    outputs = {
        "Function": {"Ref": "Orders"},
        "Arn": {"Fn::GetAtt": ["Orders", "Arn"]},
        "VersionArn": {"Ref": "Version"},
        "Version": {"Fn::GetAtt": ["Version", "Version"]},
        "Alias": {"Ref": "Live"},
        "Layer": {"Ref": "Layer"},
        "Mapping": {"Ref": "Mapping"},
        "MappingArn": {"Fn::GetAtt": ["Mapping", "EventSourceMappingArn"]},
        "Statement": {"Fn::GetAtt": ["Permission", "Id"]},
    }
    assert deploy(target, name, template(resources, **outputs)) == "CREATE_COMPLETE", events(target, name)

    made = target.outputs(name)
    configuration = client.get_function(FunctionName=made["Function"])
    assert configuration["Configuration"]["FunctionArn"] == made["Arn"]
    assert configuration["Configuration"]["MemorySize"] == 256
    assert configuration["Configuration"]["Environment"]["Variables"] == {"LIMIT": "5"}
    assert configuration["Tags"] == {"team": "a"}
    assert configuration["Concurrency"] == {"ReservedConcurrentExecutions": 3}
    assert (made["Version"], made["VersionArn"]) == ("1", f"{made['Arn']}:1")
    assert made["Alias"] == f"{made['Arn']}:live"
    assert made["Layer"].endswith(":1")
    assert json.load(client.invoke(FunctionName=made["Alias"])["Payload"]) == "layer"
    found = client.get_event_source_mapping(UUID=made["Mapping"])
    assert (found["State"], found["BatchSize"], found["EventSourceMappingArn"]) == (
        "Disabled",
        7,
        made["MappingArn"],
    )
    assert client.list_tags(Resource=made["MappingArn"])["Tags"] == {"team": "a"}
    policy = json.loads(client.get_policy(FunctionName=made["Function"], Qualifier="live")["Policy"])
    assert [statement["Sid"] for statement in policy["Statement"]] == [made["Statement"]]
    event = client.get_function_event_invoke_config(FunctionName=made["Function"], Qualifier="$LATEST")
    assert event["MaximumRetryAttempts"] == 1

    delete(target, name)
    target.nothing_is_left(name)


def test_a_removed_property_goes_back_to_lambdas_default(target: Target, name: str) -> None:
    client = target.up.client("lambda")
    outputs = {"Function": {"Ref": "Orders"}, "Mapping": {"Ref": "Mapping"}}
    filters = {"Filters": [{"Pattern": json.dumps({"value": ["a"]})}]}
    full = {
        "Orders": function(Description="d", MemorySize=512, ReservedConcurrentExecutions=2),
        "Mapping": mapping(target, name, BatchSize=7, FilterCriteria=filters),
    }
    bare = {"Orders": function(source=f"{ECHO}\n# other"), "Mapping": mapping(target, name)}
    target.up.cli("topic", "create", name)
    assert deploy(target, name, template(full, **outputs)) == "CREATE_COMPLETE", events(target, name)
    made = target.outputs(name)
    before = client.get_function_configuration(FunctionName=made["Function"])
    assert deploy(target, name, template(bare, **outputs), update=True) == "UPDATE_COMPLETE", events(
        target, name
    )

    assert target.outputs(name) == made
    after = client.get_function(FunctionName=made["Function"])
    assert (after["Configuration"]["Description"], after["Configuration"]["MemorySize"]) == ("", 128)
    assert after["Configuration"]["CodeSha256"] != before["CodeSha256"]
    assert "Concurrency" not in after
    found = client.get_event_source_mapping(UUID=made["Mapping"])
    assert found["BatchSize"] == 100
    assert "FilterCriteria" not in found
    delete(target, name)
    target.nothing_is_left(name)


def test_an_update_that_replaces_the_function_loses_no_record_of_its_mapping(
    target: Target, name: str
) -> None:
    table = {
        "Type": "AWS::DynamoDB::Table",
        "Properties": {
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        },
    }
    variables = {"Variables": {"TABLE": {"Ref": "Results"}}}
    outputs = {"Table": {"Ref": "Results"}, "Mapping": {"Ref": "Mapping"}, "Function": {"Ref": "Orders"}}

    def body(function_name: str) -> str:
        orders = function(TABLED, FunctionName=function_name, Environment=variables)
        resources = {"Results": table, "Orders": orders, "Mapping": mapping(target, name, BatchSize=5)}
        return template(resources, **outputs)

    target.up.cli("topic", "create", name, "--partitions", "3")
    assert deploy(target, name, body(f"{name}-a")) == "CREATE_COMPLETE", events(target, name)
    made = target.outputs(name)
    texts = [f"record-{number}" for number in range(120)]
    target.produce(name, *texts[:60])
    client = target.up.client("cloudformation")
    client.update_stack(StackName=name, TemplateBody=body(f"{name}-b"))
    # The replacement and the mapping's update go on while these arrive.
    target.produce(name, *texts[60:])
    assert ended(target, name) == "UPDATE_COMPLETE", events(target, name)

    after = target.outputs(name)
    assert (after["Mapping"], after["Function"]) == (made["Mapping"], f"{name}-b")
    wait_until(lambda: len(target.items(made["Table"])) == len(texts), what="every record in the table")
    functions = target.up.client("lambda").list_functions()["Functions"]
    assert [one["FunctionName"] for one in functions] == [f"{name}-b"]
    delete(target, name)
    target.nothing_is_left(name)


def test_a_stack_that_fails_in_the_middle_rolls_back_and_leaves_nothing(target: Target, name: str) -> None:
    resources = {
        "Failures": {"Type": "AWS::SQS::Queue"},
        "Orders": function(),
        "Mapping": mapping(
            target, name, FunctionName={"Fn::GetAtt": ["Orders", "Arn"]}, StartingPosition="NOW"
        ),
    }
    assert deploy(target, name, template(resources)) == "ROLLBACK_COMPLETE"
    assert "startingposition" in failure(events(target, name)).lower()
    assert target.left(name) == {}
    delete(target, name)


def test_an_update_that_fails_goes_back_to_what_was_there(target: Target, name: str) -> None:
    client = target.up.client("lambda")
    outputs = {"Function": {"Ref": "Orders"}, "Mapping": {"Ref": "Mapping"}}
    target.up.cli("topic", "create", name)
    good = {"Orders": function(Description="good"), "Mapping": mapping(target, name, BatchSize=7)}
    bad = {"Orders": function(Description="bad"), "Mapping": mapping(target, name, BatchSize=70000)}
    assert deploy(target, name, template(good, **outputs)) == "CREATE_COMPLETE", events(target, name)
    made = target.outputs(name)
    assert deploy(target, name, template(bad, **outputs), update=True) == "UPDATE_ROLLBACK_COMPLETE"

    assert client.get_function_configuration(FunctionName=made["Function"])["Description"] == "good"
    assert client.get_event_source_mapping(UUID=made["Mapping"])["BatchSize"] == 7
    delete(target, name)
    target.nothing_is_left(name)


@pytest.mark.parametrize(
    "resource_type", ["AWS::Lambda::CodeSigningConfig", "AWS::MSK::Cluster", "AWS::No::Type"]
)
def test_a_type_that_nobody_makes_is_rejected_by_name(target: Target, name: str, resource_type: str) -> None:
    with pytest.raises(ClientError, match=rf"Unrecognized resource types: \[{resource_type}\]"):
        deploy(target, name, template({"Thing": {"Type": resource_type, "Properties": {}}}))
    assert name not in target.stacks()


def test_a_second_change_set_is_empty_and_says_so(target: Target, name: str) -> None:
    client = target.up.client("cloudformation")
    body = template({"Orders": function()})
    assert deploy(target, name, body) == "CREATE_COMPLETE"
    client.create_change_set(StackName=name, ChangeSetName="again", TemplateBody=body)
    found = client.describe_change_set(StackName=name, ChangeSetName="again")
    assert (found["Status"], found["Changes"]) == ("FAILED", [])
    assert "didn't contain changes" in found["StatusReason"]
    with pytest.raises(ClientError, match="No updates are to be performed"):
        client.update_stack(StackName=name, TemplateBody=body)
    delete(target, name)


def test_a_resource_that_is_retained_outlives_its_stack(target: Target, name: str) -> None:
    client = target.up.client("lambda")
    resources = {"Orders": {**function(FunctionName=name), "DeletionPolicy": "Retain"}}
    assert deploy(target, name, template(resources)) == "CREATE_COMPLETE"
    delete(target, name)
    client.get_function_configuration(FunctionName=name)
    client.delete_function(FunctionName=name)
    target.nothing_is_left(name)


def test_sams_transform_runs_in_a_nested_stack_and_a_child_that_fails_leaves_nothing(
    target: Target, name: str
) -> None:
    s3 = target.up.client("s3")
    s3.create_bucket(Bucket=name)
    serverless = {
        "Type": "AWS::Serverless::Function",
        "Properties": {"Runtime": "python3.11", "Handler": "index.handler", "InlineCode": ECHO},
    }
    child = {"Transform": "AWS::Serverless-2016-10-31", "Resources": {"Orders": serverless}}
    broken = {"Resources": {"Orders": function(), "Wrong": {**mapping(target, name, StartingPosition="NOW")}}}
    for key, document in (("child.json", child), ("broken.json", broken)):
        s3.put_object(Bucket=name, Key=key, Body=json.dumps(document).encode())

    def parent(key: str) -> str:
        url = f"{target.up.ready['endpoint_url']}/{name}/{key}"
        return template({"Child": {"Type": "AWS::CloudFormation::Stack", "Properties": {"TemplateURL": url}}})

    assert deploy(target, name, parent("child.json")) == "CREATE_COMPLETE", events(target, name)
    assert len(target.left(name)["functions"]) == 1
    delete(target, name)
    target.nothing_is_left(name)

    assert deploy(target, f"{name}-b", parent("broken.json")) == "ROLLBACK_COMPLETE"
    target.nothing_is_left(name)


def test_a_custom_resource_is_made_by_its_function(target: Target, name: str) -> None:
    source = """
        import json, urllib.request
        def handler(event, context):
            reply = {
                "Status": "FAILED" if event["ResourceProperties"].get("Fail") == "true" else "SUCCESS",
                "Reason": "wanted to fail", "PhysicalResourceId": "thing", "StackId": event["StackId"],
                "RequestId": event["RequestId"], "LogicalResourceId": event["LogicalResourceId"],
                "Data": {"Answer": event["ResourceProperties"].get("Number", "")},
            }
            request = urllib.request.Request(event["ResponseURL"], json.dumps(reply).encode(), method="PUT")
            urllib.request.urlopen(request).read()
    """
    token = {"Fn::GetAtt": ["Orders", "Arn"]}
    resources = {
        "Orders": function(source),
        "Thing": {"Type": "Custom::Thing", "Properties": {"ServiceToken": token, "Number": 42}},
    }
    output = {"Answer": {"Fn::GetAtt": ["Thing", "Answer"]}, "Id": {"Ref": "Thing"}}
    assert deploy(target, name, template(resources, **output)) == "CREATE_COMPLETE", events(target, name)
    assert target.outputs(name) == {"Answer": "42", "Id": "thing"}
    delete(target, name)

    resources["Thing"]["Properties"]["Fail"] = True
    assert deploy(target, f"{name}-b", template(resources)) == "ROLLBACK_COMPLETE"
    assert "wanted to fail" in failure(events(target, f"{name}-b"))


BROKEN: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (
        {},
        {"EventSourceArn": "arn:aws:kafka:us-east-1:123456789012:topic/orders"},
        "Unrecognized event source.",
    ),
    ({}, {"FunctionName": "nobody"}, "Function does not exist"),
    ({"Role": None}, {}, "required key [Role] not found"),
    ({}, {"FilterCriteria": {"Filters": [{"Pattern": "{broken"}]}}, "Invalid filter pattern definition"),
    ({"Memory": 128}, {}, "extraneous key [Memory] is not permitted"),
    ({}, {"FilterCriteria": {"Filter": []}}, 'Unknown parameter in FilterCriteria: "Filter"'),
    ({"Runtime": "python2.7"}, {}, "python2.7"),
]


@pytest.mark.parametrize(
    ("function_fault", "mapping_fault", "reason"), BROKEN, ids=[reason for _, _, reason in BROKEN]
)
def test_the_reason_names_the_fault_and_the_fixed_template_deploys(
    target: Target, name: str, function_fault: dict[str, Any], mapping_fault: dict[str, Any], reason: str
) -> None:
    orders = function(**function_fault)
    orders["Properties"] = {key: value for key, value in orders["Properties"].items() if value is not None}
    broken = {"Orders": orders, "Mapping": mapping(target, name, Enabled=False, **mapping_fault)}
    assert deploy(target, name, template(broken)) == "ROLLBACK_COMPLETE"
    assert reason in failure(events(target, name))
    delete(target, name)

    fixed = {"Orders": function(), "Mapping": mapping(target, name, Enabled=False)}
    assert deploy(target, name, template(fixed)) == "CREATE_COMPLETE", events(target, name)
    delete(target, name)
    target.nothing_is_left(name)


def test_a_template_of_aliases_is_rejected_as_by_aws(target: Target, name: str) -> None:
    aliases = "  a0: &a0 [x]\n" + "".join(f"  a{n}: &a{n} [{f'*a{n - 1},' * 10}]\n" for n in range(1, 9))
    with pytest.raises(ClientError, match="YAML aliases are not allowed in CloudFormation templates"):
        deploy(target, name, f"Metadata:\n{aliases}Resources:\n  Queue:\n    Type: AWS::SQS::Queue\n")
