//go:build !(darwin || freebsd || linux || netbsd || openbsd)

package render

import "os"

// terminalMode is how a terminal was found.
type terminalMode interface{ restore(*os.File) }

// openKeyboard returns nil: keys are not read here, so the terminal stays as it
// is.
func openKeyboard(*os.File, func(key)) *keyboard { return nil }

func singleKeys(*os.File) terminalMode { return nil }

// onStop has nothing to watch: processes are not stopped here.
func onStop(*os.File, func(), func()) (end func()) { return nil }

// background is unknown here.
func background(*os.File) bool { return false }
