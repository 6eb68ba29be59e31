"""Which program answers what, by scope and path."""

import pytest

from tidemill_local.gateway.routes import Upstream, upstream_of

CLUSTER = "arn%3Aaws%3Akafka%3Aus-east-1%3A123456789012%3Acluster%2Ftidemill%2Fx-1"
MAPPING = "arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Aevent-source-mapping%3A4f6f3bd0"
FUNCTION = "arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Af"


def signed(service: str) -> dict[str, str]:
    scope = f"AKID/20261121/us-east-1/{service}/aws4_request"
    return {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"}


@pytest.mark.parametrize(
    ("service", "path", "upstream"),
    [
        ("lambda", "/2015-03-31/functions/f/invocations", "functions"),
        ("lambda", "/2015-03-31/functions/", "functions"),
        ("lambda", "/2015-03-31/event-source-mappings", "poller"),
        ("lambda", "/2015-03-31/event-source-mappings/", "poller"),
        ("lambda", "/2015-03-31/event-source-mappings/4f6f3bd0", "poller"),
        ("lambda", f"/2017-03-31/tags/{MAPPING}", "poller"),
        ("lambda", f"/2017-03-31/tags/{FUNCTION}", "functions"),
        ("kafka", f"/v1/clusters/{CLUSTER}/bootstrap-brokers", "broker"),
        ("kafka", "/v1/configurations", "broker"),
        ("sqs", "/", "aws"),
        ("s3", "/2015-03-31/functions/f", "aws"),
        ("s3", "/v1/clusters", "aws"),
        (None, "/2015-03-31/functions/f/invocations", "functions"),
        (None, "/2015-03-31/event-source-mappings", "poller"),
        (None, "/v1/clusters", "broker"),
        (None, f"/api/v2/clusters/{CLUSTER}", "broker"),
        (None, "/bucket/key", "aws"),
        (None, "/", "aws"),
    ],
)
def test_scope_then_path_choose_the_program(service: str | None, path: str, upstream: Upstream) -> None:
    """The scope wins; without one the path decides; the path stays as it came."""
    assert upstream_of(path, "", signed(service) if service else {}) == upstream


def test_a_presigned_url_is_told_by_its_query() -> None:
    """A presigned S3 URL goes to AWS whatever its path says."""
    query = "X-Amz-Credential=AKID%2F20261121%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Signature=0"
    assert upstream_of("/2015-03-31/functions/f", query, {}) == "aws"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/_tidemill/mappings/4f6f/status", "poller"),
        ("/_tidemill/functions", "functions"),
        ("/_tidemill/functions/f/logs", "functions"),
        ("/_tidemill/functionsf", None),
        ("/_tidemill/else", None),
    ],
)
def test_own_routes_are_told_by_what_they_are_about(path: str, expected: Upstream | None) -> None:
    assert upstream_of(path, "", {}) == expected
