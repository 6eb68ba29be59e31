// A handler with aws-lambda-go.
package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
)

type identifier struct {
	Partition string `json:"partition"`
	Offset    int64  `json:"offset"`
}

type failure struct {
	ItemIdentifier identifier `json:"itemIdentifier"`
}

type response struct {
	BatchItemFailures []failure `json:"batchItemFailures"`
}

func process(partition string, record events.KafkaRecord) error {
	value, err := base64.StdEncoding.DecodeString(record.Value)
	if err != nil {
		return err
	}
	var order struct {
		Poison bool `json:"poison"`
	}
	if err := json.Unmarshal(value, &order); err != nil {
		return err
	}
	if order.Poison {
		return fmt.Errorf("poison")
	}
	key, err := base64.StdEncoding.DecodeString(record.Key)
	if err != nil {
		return err
	}
	row, err := json.Marshal([][]any{{record.Offset, string(key), string(value)}})
	if err != nil {
		return err
	}
	name := filepath.Join(os.Getenv("PROOF_DIR"), "done-"+partition)
	proof, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer proof.Close()
	_, err = fmt.Fprintf(proof, "\n%s\n", row)
	return err
}

func handle(event events.KafkaEvent) (response, error) {
	answer := response{BatchItemFailures: []failure{}}
	for partition, records := range event.Records {
		for _, record := range records {
			if process(partition, record) != nil {
				answer.BatchItemFailures = append(answer.BatchItemFailures, failure{identifier{partition, record.Offset}})
			}
		}
	}
	return answer, nil
}

func main() {
	lambda.Start(handle)
}
