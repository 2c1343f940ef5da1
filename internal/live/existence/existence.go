// Package existence asks an AWS emulator whether it still holds the resources
// that a Terraform state names.
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
	req, err := http.NewRequestWithContext(ctx, q.method, c.Endpoint+q.path, bytes.NewReader(q.body))
	if err != nil {
		return "", err
	}
	for name, value := range q.header {
		req.Header.Set(name, value)
	}
	sum := sha256.Sum256(q.body)
	// The emulator does not verify the signature, but finds the service in it.
	keys := aws.Credentials{AccessKeyID: c.AccessKey, SecretAccessKey: c.SecretKey}
	if err := v4.NewSigner().SignHTTP(ctx, keys, req, hex.EncodeToString(sum[:]), q.service, c.Region, time.Now()); err != nil {
		return "", err
	}
	resp, err := direct.Do(req)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerSize))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return "", err
	}
	return verdict(resp, body, q.doomed)
}

// absent matches the error codes of AWS services for what is not there.
var absent = regexp.MustCompile(`NotFound|NoSuch|DoesNotExist|NonExistent`)

// errorCode finds the code in an answer's body, of JSON or XML.
var errorCode = regexp.MustCompile(`"__type"\s*:\s*"([^"]+)"|<Code>([^<]+)</Code>`)

// verdict reads an answer. doomed matches the body of what exists but is on its
// way out, as the services that wait before they delete describe it.
func verdict(resp *http.Response, body []byte, doomed *regexp.Regexp) (Verdict, error) {
	if resp.StatusCode/100 == 2 {
		if doomed != nil && doomed.Match(body) {
			return Missing, nil
		}
		return Held, nil
	}
	code := resp.Header.Get("X-Amzn-Errortype")
	if m := errorCode.FindSubmatch(body); m != nil {
		code = string(m[1]) + string(m[2])
	}
	if absent.MatchString(code) || resp.StatusCode == http.StatusNotFound && (code == "" || resp.Request.Method == http.MethodHead) {
		return Missing, nil
	}
	return "", fmt.Errorf("the emulator answers %s %s", resp.Status, code)
}
