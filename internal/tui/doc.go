// Package tui is the dashboard: what a stack is doing and how it is, live, on
// a terminal's alternate screen.
//
// Events go into a Feed, which reduces them to an event.View and hands out at
// most ten snapshots a second. The model turns a snapshot into a frame, a key
// into an intent and an intent into a change of its own state. It does no I/O:
// what reaches outside goes through Actions, in commands with a deadline. As a
// frame depends on the events, the clock and the intents alone, a recorded run
// shows exactly what the live one did.
//
// The package imports event and Charm only.
package tui
