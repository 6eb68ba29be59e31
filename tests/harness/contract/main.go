// The contract suite's handler in Go, over aws-lambda-go; APP in cases.py does the same.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type wish struct {
	Do     string `json:"do"`
	Status int    `json:"status"`
	Number int    `json:"number"`
	Count  int    `json:"count"`
	Lines  int    `json:"lines"`
	Name   string `json:"name"`
	Text   string `json:"text"`
}

var held [][]byte

func text(content []byte, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return string(content), nil
}

func handle(ctx context.Context, event json.RawMessage) (any, error) {
	var asked wish
	if json.Unmarshal(event, &asked) != nil || asked.Do == "" {
		return event, nil
	}
	temporary := filepath.Join(os.TempDir(), "kept")
	switch asked.Do {
	case "raise":
		return nil, errors.New("boom é")
	case "unserialisable":
		return make(chan int), nil
	case "exit":
		os.Exit(asked.Status)
	case "signal":
		syscall.Kill(os.Getpid(), syscall.Signal(asked.Number))
		select {}
	case "sleep":
		time.Sleep(600 * time.Second)
	case "hold":
		for {
			block := make([]byte, 1<<20)
			for index := range block {
				block[index] = 1
			}
			held = append(held, block)
			time.Sleep(2 * time.Millisecond)
		}
	case "size":
		return strings.Repeat("x", asked.Count), nil
	case "length":
		return len(asked.Text), nil
	case "print":
		fmt.Println(asked.Text)
		fmt.Fprintln(os.Stderr, "on error")
	case "print-unended":
		fmt.Print("no end of line")
	case "flood":
		line := strings.Repeat("x", 999)
		for n := 0; n < asked.Lines; n++ {
			fmt.Println(line)
		}
	case "env":
		if value, found := os.LookupEnv(asked.Name); found {
			return value, nil
		}
	case "trace":
		return os.Getenv("_X_AMZN_TRACE_ID"), nil
	case "pid":
		return os.Getpid(), nil
	case "child":
		child := exec.Command("sleep", "600")
		if err := child.Start(); err != nil {
			return nil, err
		}
		return child.Process.Pid, nil
	case "thread":
		go func() {
			for {
				time.Sleep(50 * time.Millisecond)
			}
		}()
	case "write":
		return temporary, os.WriteFile(temporary, []byte(asked.Text), 0o600)
	case "read":
		if content, err := os.ReadFile(temporary); err == nil {
			return string(content), nil
		}
	case "data":
		return text(os.ReadFile("data.txt"))
	case "program":
		return text(exec.Command("of-the-layer").Output())
	case "left":
		deadline, _ := ctx.Deadline()
		return time.Until(deadline).Milliseconds(), nil
	case "client":
		if found, ok := lambdacontext.FromContext(ctx); ok && found.ClientContext.Custom != nil {
			return found.ClientContext.Custom, nil
		}
	case "context":
		found, _ := lambdacontext.FromContext(ctx)
		return []any{found.AwsRequestID, lambdacontext.FunctionName, found.InvokedFunctionArn,
			lambdacontext.MemoryLimitInMB, lambdacontext.FunctionVersion, lambdacontext.LogGroupName}, nil
	}
	return nil, nil
}

func main() {
	switch os.Getenv("AT_INIT") {
	case "raise":
		panic("at init é")
	case "exit":
		os.Exit(7)
	}
	lambda.Start(handle)
}
