"""Java's and Kafka's own answers about certificate names: X500Principal.getName() and SslPrincipalMapper."""

from __future__ import annotations

import subprocess
from base64 import b64decode, b64encode
from collections.abc import Sequence
from pathlib import Path

from tests.oracles.apache_kafka import jars

PROGRAM = """
import java.io.*;
import java.nio.charset.StandardCharsets;
import java.util.*;
import javax.security.auth.x500.X500Principal;
import org.apache.kafka.common.security.ssl.SslPrincipalMapper;

public class Names {
    static byte[] decode(String text) { return Base64.getDecoder().decode(text); }
    static String text(String encoded) { return new String(decode(encoded), StandardCharsets.UTF_8); }

    static String answer(String[] asked) throws Exception {
        if (asked[0].equals("name")) return new X500Principal(decode(asked[1])).getName();
        return SslPrincipalMapper.fromRules(text(asked[1])).getName(text(asked[2]));
    }

    public static void main(String[] arguments) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = lines.readLine()) != null; ) {
            String said;
            try {
                said = "= " + Base64.getEncoder().encodeToString(
                    answer(line.split(" ", -1)).getBytes(StandardCharsets.UTF_8));
            } catch (Exception fault) {
                said = "! " + fault.getClass().getSimpleName();
            }
            System.out.println(said);
        }
    }
}
"""


class JavaNames:
    """Asks many questions of one run of Java; None where Java refuses."""

    def __init__(self, directory: Path) -> None:
        self._source = directory / "Names.java"
        self._source.write_text(PROGRAM)

    def names(self, subjects: Sequence[bytes]) -> list[str | None]:
        """Each DER Name as Java spells it."""
        return self._ask([f"name {_encoded(subject)}" for subject in subjects])

    def users(self, questions: Sequence[tuple[str, str]]) -> list[str | None]:
        """What Kafka makes of each (rules, name)."""
        return self._ask(
            [f"user {_encoded(rules.encode())} {_encoded(name.encode())}" for rules, name in questions]
        )

    def _ask(self, lines: Sequence[str]) -> list[str | None]:
        run = subprocess.run(
            ["java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", f"{jars()}/*", str(self._source)],
            input="\n".join(lines),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        answers = run.stdout.splitlines()
        assert len(answers) == len(lines), run.stderr
        return [b64decode(said[2:]).decode() if said.startswith("= ") else None for said in answers]


def _encoded(content: bytes) -> str:
    return b64encode(content).decode()
