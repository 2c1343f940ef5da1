// Package packages builds the platform images from packages, for hosts that
// reach package mirrors but no image registry.
//
// A recipe (images/NAME/image.yaml) says what a component is made of. A
// Builder turns it into an Artifact: Debian systems come from mmdebstrap, Go
// programs from verified modules, Python packages from a hash-locked file,
// and the image is put together as an OCI layout in the user's cache. No
// container engine takes part. Every step's result is a part that is cached
// by the hash of its inputs, so an interrupted build continues where it
// stopped, and a lock per part keeps two processes from doing the same work.
package packages
