"""The table of access types has every type of Lambda's API, and docs/parity.md those that are not built."""

from __future__ import annotations

from pathlib import Path

import botocore.session
import pytest

from tidemill_poller.errors import InvalidParameter
from tidemill_poller.kafka_auth.access_types import ACCESS_TYPES, check_access
from tidemill_poller.kafka_auth.cluster import AuthMethod
from tidemill_poller.mapping import SourceAccess

PARITY = (Path(__file__).resolve().parents[4] / "docs/parity.md").read_text()
SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:AmazonMSK_a-AbCdEf"


def test_every_type_of_the_api_model_is_in_the_table() -> None:
    model = botocore.session.get_session().get_service_model("lambda")
    of_the_model = set(model.shape_for("SourceAccessType").enum) - {"VIRTUAL_HOST"}
    assert of_the_model <= set(ACCESS_TYPES)


def test_every_type_that_is_not_built_is_listed() -> None:
    unbuilt = [row.name for row in ACCESS_TYPES.values() if not row.built]
    assert unbuilt
    assert [name for name in unbuilt if name not in PARITY] == []


def test_an_msk_cluster_takes_certificates_and_scram_512() -> None:
    methods = {row.name: row.msk.method for row in ACCESS_TYPES.values() if row.msk}
    assert methods == {
        "CLIENT_CERTIFICATE_TLS_AUTH": AuthMethod.TLS,
        "SASL_SCRAM_512_AUTH": AuthMethod.SCRAM,
    }
    for name in methods:
        check_access([SourceAccess(type=name, uri=SECRET)], msk=True)


@pytest.mark.parametrize("name", ["BASIC_AUTH", "IAM_AUTH", "VPC_SUBNET", "VIRTUAL_HOST", "NEW_TYPE"])
def test_any_other_type_is_not_for_an_msk_cluster(name: str) -> None:
    with pytest.raises(InvalidParameter, match=f"type {name} is not for an Amazon MSK event source"):
        check_access([SourceAccess(type=name, uri=SECRET)], msk=True)


@pytest.mark.parametrize(
    ("subnet", "group"), [("subnet:subnet-1", "security_group:sg-1"), ("subnet-1", "sg-1")]
)
def test_a_network_is_named_with_and_without_the_kind_of_its_parts(subnet: str, group: str) -> None:
    check_access(
        [SourceAccess(type="VPC_SUBNET", uri=subnet), SourceAccess(type="VPC_SECURITY_GROUP", uri=group)],
        msk=False,
    )


@pytest.mark.parametrize("uri", ["sg-1", "subnet-", "subnet:subnet-", "subnet:1"])
def test_a_uri_that_names_no_subnet_is_rejected_with_an_example(uri: str) -> None:
    given = [SourceAccess(type="VPC_SUBNET", uri=uri), SourceAccess(type="VPC_SECURITY_GROUP", uri="sg-1")]
    with pytest.raises(InvalidParameter, match=r"VPC_SUBNET must look like subnet:subnet-0123456789abcdef0"):
        check_access(given, msk=False)
