//go:build unix

package secret

import "io/fs"

// private says that nobody but the owner may read or write the file.
func private(info fs.FileInfo) bool { return info.Mode().Perm()&0o077 == 0 }
