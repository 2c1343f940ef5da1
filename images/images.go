// Package images holds the recipes of the platform images: what each is made
// of when no image registry can be reached (FOLDER/image.yaml), the verified
// Go modules they compile (gomod/), and the pinned registry images used where
// a registry can be reached (lock.yaml). It is data; internal/packages builds.
package images

import "embed"

// FS holds the recipes. Folders starting with "_" or "." are included.
//
//go:embed all:*
var FS embed.FS
