//go:build !unix

package cli

import "errors"

func leadsSession() bool { return true } // which can't be left

func closeOnExec(int) {}

func newSession() error { return errors.New("this system has no sessions of terminals") }
