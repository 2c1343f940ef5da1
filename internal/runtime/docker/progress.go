package docker

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// progress turns BuildKit's trace of a build into the lines of a log. The trace
// is a protocol buffer, of which a few fields are read here, so that BuildKit
// and all it needs stay out of the program.
type progress struct {
	log func(string)
	// announced are the steps that have been named, by digest.
	announced map[string]bool
	failed    map[string]bool
	partial   map[string]string // the unfinished last line of each step
	lacks     lacks
}

// lacks are the images that the builder could not get.
type lacks struct {
	// unpulled are those that it could not even ask a registry for.
	unpulled []string
	// syntax is the one that the Dockerfile names as its syntax.
	syntax string
}

func newProgress(log func(string)) *progress {
	return &progress{log: log, announced: map[string]bool{}, failed: map[string]bool{}, partial: map[string]string{}}
}

// The fields of moby.buildkit.v1.StatusResponse and its parts.
const (
	statusVertexes = 1
	statusLogs     = 3

	vertexDigest  = 1
	vertexName    = 3
	vertexStarted = 5
	vertexEnded   = 6
	vertexError   = 7

	logVertex  = 1
	logMessage = 4
)

// stepName matches the name of a step of the Dockerfile, "[2/4] RUN x" or
// "[build 2/4] RUN x"; others are the builder's own.
var stepName = regexp.MustCompile(`(?s)^\[(?:(\S+) )?(\d+)/(\d+)\] (.*)`)

// noSession is how BuildKit fails where a registry wants a token: it asks its
// client for credentials, even if none are needed, and there is no client.
const noSession = "no active session"

// imageLookup matches the steps in which the builder asks for an image.
// The second is for the Dockerfile's syntax.
var imageLookup = regexp.MustCompile(`(load metadata for|resolve image config for) (?:docker-image://)?(\S+)$`)

// take reads one StatusResponse.
func (p *progress) take(trace []byte) error {
	return fields(trace, func(number protowire.Number, value []byte) error {
		switch number {
		case statusVertexes:
			return p.vertex(value)
		case statusLogs:
			return p.output(value)
		}
		return nil
	})
}

// vertex announces a step when it starts, and says how it failed.
func (p *progress) vertex(data []byte) error {
	var digest, name, problem string
	started, ended := false, false
	err := fields(data, func(number protowire.Number, value []byte) error {
		switch number {
		case vertexDigest:
			digest = string(value)
		case vertexName:
			name = string(value)
		case vertexStarted:
			started = true
		case vertexEnded:
			ended = true
		case vertexError:
			problem = string(value)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if step := stepName.FindStringSubmatch(name); step != nil && started && !p.announced[digest] {
		p.announced[digest] = true
		p.log(fmt.Sprintf("Step %s/%s : %s", step[2], step[3], oneLine(step[4])))
	}
	if ended && p.partial[digest] != "" {
		p.log(p.partial[digest])
		delete(p.partial, digest)
	}
	if problem != "" && p.lacking(name, problem) {
		return nil
	}
	if problem != "" && !p.failed[digest] && !strings.HasSuffix(problem, "context canceled") {
		p.failed[digest] = true
		p.log("Error: " + oneLine(problem))
	}
	return nil
}

// lacking notes the image that the failed step could not get, and reports whether
// there may be another way to it.
func (p *progress) lacking(name, problem string) bool {
	asked := !strings.Contains(problem, noSession)
	image := imageLookup.FindStringSubmatch(name)
	if image == nil {
		return !asked // of what waits for the image
	}
	ofSyntax := strings.HasPrefix(image[1], "resolve")
	if ofSyntax {
		p.lacks.syntax = image[2]
	}
	if !asked {
		p.lacks.unpulled = append(p.lacks.unpulled, image[2])
	}
	return ofSyntax || !asked
}

// output passes on the lines that a step has written.
func (p *progress) output(data []byte) error {
	var digest, text string
	err := fields(data, func(number protowire.Number, value []byte) error {
		switch number {
		case logVertex:
			digest = string(value)
		case logMessage:
			text = string(value)
		}
		return nil
	})
	if err != nil {
		return err
	}
	lines := strings.Split(p.partial[digest]+text, "\n")
	for _, line := range lines[:len(lines)-1] {
		if line = strings.TrimRight(line, "\r"); line != "" {
			p.log(line)
		}
	}
	p.partial[digest] = lines[len(lines)-1]
	return nil
}

// fields calls f with each field of the message that has a length; numbers are
// passed over.
func fields(message []byte, f func(protowire.Number, []byte) error) error {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return protowire.ParseError(n)
		}
		message = message[n:]
		if kind != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
				return protowire.ParseError(n)
			}
			message = message[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(message)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err := f(number, value); err != nil {
			return err
		}
		message = message[n:]
	}
	return nil
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// isClosed reports whether writing ended because nobody reads any more.
func isClosed(err error) bool { return errors.Is(err, io.ErrClosedPipe) }
