"""Tokens that AWS's Java library aws-msk-iam-auth signs.

The signing runs as a Java source file, several tokens in one JVM. Knows nothing of Tidemill.
"""

from __future__ import annotations

import subprocess
from base64 import b64decode
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.oracles.apache_kafka import TOOL_FLAGS, jars
from tests.oracles.iam_tokens import Keys, frame
from tests.oracles.secure_java import msk_iam_auth_jar

# One line a token on standard input: mechanism, host, access key, secret, session token or "-".
_PROGRAM = """
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.Scanner;
import javax.security.auth.callback.Callback;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerTokenCallback;
import software.amazon.awssdk.auth.credentials.*;
import software.amazon.msk.auth.iam.IAMOAuthBearerLoginCallbackHandler;
import software.amazon.msk.auth.iam.internals.*;

class IamTokens {
    public static void main(String[] none) throws Exception {
        Scanner lines = new Scanner(System.in);
        while (lines.hasNextLine()) {
            String[] row = lines.nextLine().split(" ");
            boolean temporary = !row[4].equals("-");
            byte[] token;
            if (row[0].equals("AWS_MSK_IAM")) {
                AwsCredentials keys = temporary
                    ? AwsSessionCredentials.create(row[2], row[3], row[4])
                    : AwsBasicCredentials.create(row[2], row[3]);
                token = new AWS4SignedPayloadGenerator()
                    .signedPayload(AuthenticationRequestParams.create(row[1], keys, "tests/1"));
            } else {
                System.setProperty("aws.accessKeyId", row[2]);
                System.setProperty("aws.secretAccessKey", row[3]);
                if (temporary) System.setProperty("aws.sessionToken", row[4]);
                else System.clearProperty("aws.sessionToken");
                IAMOAuthBearerLoginCallbackHandler handler = new IAMOAuthBearerLoginCallbackHandler();
                handler.configure(Map.of(), "OAUTHBEARER", List.of());
                OAuthBearerTokenCallback callback = new OAuthBearerTokenCallback();
                handler.handle(new Callback[] {callback});
                token = callback.token().value().getBytes(StandardCharsets.US_ASCII);
            }
            System.out.println("token " + Base64.getEncoder().encodeToString(token));
        }
    }
}
"""


class Wanted(NamedTuple):
    mechanism: str
    host: str
    keys: Keys


def java_tokens(directory: Path, wanted: Sequence[Wanted], *, region: str) -> list[bytes]:
    """Tokens signed now by AWS's library, ready to be sent. Needs Java and Maven, as `jars` does."""
    program = directory / "IamTokens.java"
    program.write_text(_PROGRAM)
    rows = "".join(
        f"{mechanism} {host} {keys.access_key_id} {keys.secret} {keys.session_token or '-'}\n"
        for mechanism, host, keys in wanted
    )
    run = subprocess.run(
        [
            "java",
            *TOOL_FLAGS,
            f"-Daws.region={region}",
            "-cp",
            f"{msk_iam_auth_jar()}/*:{jars()}/*",
            str(program),
        ],
        input=rows,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    tokens = [b64decode(line.split()[1]) for line in run.stdout.splitlines() if line.startswith("token ")]
    return [
        token if each.mechanism == "AWS_MSK_IAM" else frame(url_in(token))
        for each, token in zip(wanted, tokens, strict=True)
    ]


def url_in(bearer: bytes) -> str:
    return b64decode(bearer + b"=" * (-len(bearer) % 4), altchars=b"-_").decode()
