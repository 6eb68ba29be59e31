package orders;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import com.amazonaws.services.lambda.runtime.events.KafkaEvent;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;

/** A handler with aws-lambda-java-events. */
public class Orders implements RequestHandler<KafkaEvent, Map<String, Object>> {
    @Override
    public Map<String, Object> handleRequest(KafkaEvent event, Context context) {
        List<Map<String, Object>> failures = new ArrayList<>();
        for (Map.Entry<String, List<KafkaEvent.KafkaEventRecord>> partition : event.getRecords().entrySet()) {
            for (KafkaEvent.KafkaEventRecord record : partition.getValue()) {
                if (text(record.getValue()).contains("\"poison\": true")) {
                    failures.add(Map.of("itemIdentifier",
                        Map.of("partition", partition.getKey(), "offset", record.getOffset())));
                } else {
                    prove(partition.getKey(), record);
                }
            }
        }
        return Map.of("batchItemFailures", failures);
    }

    private static String text(String encoded) {
        return new String(Base64.getDecoder().decode(encoded), StandardCharsets.UTF_8);
    }

    private static void prove(String partition, KafkaEvent.KafkaEventRecord record) {
        String value = text(record.getValue()).replace("\\", "\\\\").replace("\"", "\\\"");
        String row = String.format("\n[[%d, \"%s\", \"%s\"]]\n", record.getOffset(), text(record.getKey()), value);
        try {
            Path file = Path.of(System.getenv("PROOF_DIR"), "done-" + partition);
            Files.writeString(file, row, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
