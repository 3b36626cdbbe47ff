// Carries out cases with grpc-go; Tests/Interop/cases/README.md describes them, and run_cases.py starts this:
//
//	driver --target HOST:PORT --ca FILE CASE...
//
// It writes a line of JSON for each case, and for each thing asked of run_cases.py, whose answers come as lines of
// JSON.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

var input = bufio.NewReader(os.Stdin)

func say(line map[string]any) {
	text, err := json.Marshal(line)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(text))
}

// askServer asks run_cases.py for something, and waits until it is done.
func askServer(step map[string]any) (map[string]any, error) {
	say(map[string]any{"ask": step})
	line, err := input.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	var answer map[string]any
	if err := json.Unmarshal(line, &answer); err != nil {
		return nil, err
	}
	if failure, failed := answer["error"]; failed {
		return nil, errors.New(fmt.Sprint(failure))
	}
	return answer, nil
}

// dial opens a channel to the target that trusts the authority in the file.
func dial(target, ca string) (*grpc.ClientConn, error) {
	tls, err := credentials.NewClientTLSFromFile(ca, "")
	if err != nil {
		return nil, err
	}
	return grpc.Dial(
		target,
		grpc.WithTransportCredentials(tls),
		// A server that has just been started again may not be there yet.
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
}

func steps(path string) ([]map[string]any, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var file struct{ Steps []map[string]any }
	err = json.Unmarshal(text, &file)
	return file.Steps, err
}

func main() {
	target := flag.String("target", "", "the server's address")
	ca := flag.String("ca", "", "the certificate of the authority to trust, in PEM")
	flag.Parse()
	channel, err := dial(*target, *ca)
	if err != nil {
		log.Fatal(err)
	}
	defer channel.Close()
	methods := allMethods(channel)
	for _, path := range flag.Args() {
		list, err := steps(path)
		if err == nil {
			err = newRunner(methods).run(list)
		}
		result := map[string]any{
			"case": strings.TrimSuffix(filepath.Base(path), ".json"), "passed": err == nil, "why": "",
		}
		if err != nil {
			result["why"] = err.Error()
		}
		say(result)
	}
}
