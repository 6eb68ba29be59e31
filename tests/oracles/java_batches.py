"""What Apache Kafka makes of a record batch: LogValidator, as its broker runs it, and its reader."""

from __future__ import annotations

import subprocess
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.oracles.apache_kafka import jars

PROGRAM = """
import java.io.*;
import java.nio.ByteBuffer;
import java.security.MessageDigest;
import java.util.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.*;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.utils.*;
import org.apache.kafka.storage.internals.log.*;

public class Batches {
    static final LogValidator.MetricsRecorder SILENT = new LogValidator.MetricsRecorder() {
        public void recordInvalidMagic() {}
        public void recordInvalidOffset() {}
        public void recordInvalidSequence() {}
        public void recordInvalidChecksums() {}
        public void recordNoKeyCompactedTopic() {}
    };

    static MemoryRecords records(byte[] bytes) {
        return MemoryRecords.readableRecords(ByteBuffer.wrap(bytes.clone()));
    }

    static String validate(byte[] bytes) {
        try {
            MemoryRecords records = records(bytes);
            CompressionType codec = records.batches().iterator().next().compressionType();
            new LogValidator(
                records, new TopicPartition("t", 0), Time.SYSTEM, codec, Compression.of(codec).build(), false,
                RecordBatch.MAGIC_VALUE_V2, TimestampType.CREATE_TIME, Long.MAX_VALUE, Long.MAX_VALUE, 0,
                AppendOrigin.CLIENT
            ).validateMessagesAndAssignOffsets(PrimitiveRef.ofLong(0), SILENT, BufferSupplier.NO_CACHING);
            return "ok";
        } catch (Throwable fault) {
            return fault.getClass().getSimpleName();
        }
    }

    static void add(MessageDigest digest, ByteBuffer field) {
        digest.update(field == null ? "null".getBytes() : ("" + field.remaining() + ":").getBytes());
        if (field != null) digest.update(field.duplicate());
    }

    static String read(byte[] bytes) {
        try {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            int count = 0;
            for (MutableRecordBatch batch : records(bytes).batches()) {
                batch.ensureValid();
                try (CloseableIterator<Record> each = batch.streamingIterator(BufferSupplier.NO_CACHING)) {
                    while (each.hasNext()) {
                        Record record = each.next();
                        digest.update((record.offset() + " " + record.timestamp() + ";").getBytes());
                        add(digest, record.key());
                        add(digest, record.value());
                        for (Header header : record.headers()) {
                            add(digest, ByteBuffer.wrap(header.key().getBytes("UTF-8")));
                            add(digest, header.value() == null ? null : ByteBuffer.wrap(header.value()));
                        }
                        count++;
                    }
                }
            }
            return count + ":" + HexFormat.of().formatHex(digest.digest());
        } catch (Throwable fault) {
            return "!" + fault.getClass().getSimpleName();
        }
    }

    public static void main(String[] arguments) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        StringBuilder said = new StringBuilder();
        for (String line; (line = lines.readLine()) != null; ) {
            byte[] bytes = Base64.getDecoder().decode(line);
            said.append(validate(bytes)).append(' ').append(read(bytes)).append('\\n');
        }
        System.out.print(said);
    }
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`accepted`: the broker appends it. `read`: number and digest of its records, None where Java fails."""

    accepted: bool
    fault: str
    read: str | None


class JavaBatches:
    """Validate many batches in one run of Java."""

    def __init__(self, directory: Path) -> None:
        self._source = directory / "Batches.java"
        self._source.write_text(PROGRAM)

    def validate(self, batches: Sequence[bytes]) -> list[Verdict]:
        """One verdict for each batch."""
        flags = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
        run = subprocess.run(
            ["java", *flags, "-cp", f"{jars()}/*", str(self._source)],
            input="\n".join(b64encode(batch).decode() for batch in batches),
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        lines = [line.split(" ") for line in run.stdout.splitlines()]
        assert len(lines) == len(batches), run.stderr
        return [
            Verdict(accepted=said == "ok", fault=said, read=None if read.startswith("!") else read)
            for said, read in lines
        ]
