// A handler with Powertools for AWS Lambda (TypeScript): its Kafka consumer turns records into objects.
import { appendFileSync } from "node:fs";
import { SchemaType, kafkaConsumer } from "@aws-lambda-powertools/kafka";

export const handler = kafkaConsumer(
  async (event) => {
    const batchItemFailures = [];
    for (const { key, value, originalValue, topic, partition, offset } of event.records) {
      if (value.poison) {
        batchItemFailures.push({ itemIdentifier: { partition: `${topic}-${partition}`, offset } });
        continue;
      }
      const row = [[offset, key, Buffer.from(originalValue, "base64").toString()]];
      appendFileSync(`${process.env.PROOF_DIR}/done-${topic}-${partition}`, `\n${JSON.stringify(row)}\n`);
    }
    return { batchItemFailures };
  },
  { value: { type: SchemaType.JSON } },
);
