"""Owns `export --as cdk`: an AWS CDK application in TypeScript with the mapping as its one construct. Pure.

CfnEventSourceMapping has every property of CloudFormation; ManagedKafkaEventSource has not. What is written
is JavaScript too, so `node` runs it without a compiler.
"""

import json
from typing import Any

from tidemill_cli.portable.request import Request
from tidemill_cli.portable.templates import properties, resource_id

_PROGRAM = """\
import {{ App, Stack }} from 'aws-cdk-lib';
import {{ CfnEventSourceMapping }} from 'aws-cdk-lib/aws-lambda';

const app = new App();
const stack = new Stack(app, '{id}Stack');
new CfnEventSourceMapping(stack, '{id}', {properties});
app.synth();"""


def application(request: Request) -> str:
    """Return the application: `npx cdk deploy --app 'npx tsx mapping.ts'` deploys it."""
    written = json.dumps(_camel(properties(request)), indent=2)
    return _PROGRAM.format(id=resource_id(request), properties=written)


def _camel(value: Any) -> Any:
    """The value with the CDK's names, e.g. `schemaRegistryUri` of `SchemaRegistryURI`."""
    if isinstance(value, dict):
        return {_name(name): _camel(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_camel(item) for item in value]
    return value


def _name(name: str) -> str:
    name = name.replace("URI", "Uri")
    return name[0].lower() + name[1:]
