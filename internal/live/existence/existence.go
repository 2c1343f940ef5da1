// Package existence asks an AWS emulator whether it still holds the resources
// that a Terraform state names, and can make away with them for a drill.
//
// It answers one question, for the types that sandboxes use most, in a few
// milliseconds each. What in a resource has changed is for Terraform to tell.
package existence

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"golang.org/x/sync/errgroup"
)

// Verdict is what is known of a resource.
type Verdict string

// The verdicts.
const (
	Held    Verdict = "held"
	Missing Verdict = "missing"
	// Unknown means that resources of this type can't be asked for.
	Unknown Verdict = "unknown"
)

// Checker asks one emulator.
type Checker struct {
	Endpoint             string // "http://127.0.0.1:4566"
	Region               string
	AccessKey, SecretKey string
}

const (
	// atOnce is how many questions are asked at the same time.
	atOnce = 4
	// answerSize bounds what is read of an answer, in bytes.
	answerSize = 1 << 20
)

// direct never goes through a proxy: the emulator is on this host.
var direct = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: atOnce, IdleConnTimeout: 5 * time.Second}}

// Check returns a verdict on each resource. An emulator that does not answer,
// or not to the question, is an error, and no verdict.
func (c Checker) Check(ctx context.Context, list []Resource) ([]Verdict, error) {
	verdicts := make([]Verdict, len(list))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i, r := range list {
		q, ok := question(r)
		if !ok {
			verdicts[i] = Unknown
			continue
		}
		g.Go(func() error {
			v, err := c.ask(ctx, q)
			if err != nil {
				return fmt.Errorf("look for %s: %w", r.Address, err)
			}
			verdicts[i] = v
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return verdicts, nil
}

// ask sends one question and reads the verdict from the answer.
func (c Checker) ask(ctx context.Context, q query) (Verdict, error) {
	a, err := c.send(ctx, q)
	if err != nil {
		return "", err
	}
	switch {
	case a.ok() && q.doomed != nil && q.doomed.Match(a.body), a.absent():
		return Missing, nil
	case a.ok():
		return Held, nil
	}
	return "", a.refusal()
}

// answer is what the emulator says to a request.
type answer struct {
	*http.Response
	body []byte
}

// send sends a request and reads the answer.
func (c Checker) send(ctx context.Context, q query) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, q.method, c.Endpoint+q.path, bytes.NewReader(q.body))
	if err != nil {
		return answer{}, err
	}
	for name, value := range q.header {
		req.Header.Set(name, value)
	}
	sum := sha256.Sum256(q.body)
	// The emulator does not verify the signature, but finds the service in it.
	keys := aws.Credentials{AccessKeyID: c.AccessKey, SecretAccessKey: c.SecretKey}
	if err := v4.NewSigner().SignHTTP(ctx, keys, req, hex.EncodeToString(sum[:]), q.service, c.Region, time.Now()); err != nil {
		return answer{}, err
	}
	resp, err := direct.Do(req)
	if err != nil {
		return answer{}, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerSize))
	return answer{resp, body}, errors.Join(err, resp.Body.Close())
}

func (a answer) ok() bool { return a.StatusCode/100 == 2 }

// missing matches the error codes of AWS services for what is not there.
var missing = regexp.MustCompile(`NotFound|NoSuch|DoesNotExist|NonExistent`)

// absent reports whether what was asked about is not there.
func (a answer) absent() bool {
	if a.ok() {
		return false
	}
	code := a.code()
	return missing.MatchString(code) || a.StatusCode == http.StatusNotFound && (code == "" || a.Request.Method == http.MethodHead)
}

// errorCode finds the code in an answer's body, of JSON or XML.
var errorCode = regexp.MustCompile(`"__type"\s*:\s*"([^"]+)"|<Code>([^<]+)</Code>`)

// code is the code of an error.
func (a answer) code() string {
	if m := errorCode.FindSubmatch(a.body); m != nil {
		return string(m[1]) + string(m[2])
	}
	return a.Header.Get("X-Amzn-Errortype")
}

// refusal is the error that an answer is.
func (a answer) refusal() error {
	return fmt.Errorf("the emulator answers %s %s", a.Status, a.code())
}
