//go:build !race

package tui

// raceDetector says whether the tests run under the race detector.
const raceDetector = false
