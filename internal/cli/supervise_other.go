//go:build !unix

package cli

import "errors"

func newSession() error { return errors.New("this system has no sessions of terminals") }
