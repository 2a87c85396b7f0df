//go:build !unix

package secret

import "io/fs"

// private cannot tell where permissions are not those of Unix.
func private(fs.FileInfo) bool { return true }
