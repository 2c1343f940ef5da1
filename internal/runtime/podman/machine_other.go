//go:build !linux

package podman

// thisMachine needs no adaptation where Podman's service runs in a virtual
// machine of its own.
func thisMachine() machine { return machine{mayRaiseLimits: true} }
