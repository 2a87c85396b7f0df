//go:build !unix

package main

import "os"

// lockFile opens a file; where there is no flock two demos over one directory are stopped by Postgres's own pid file.
func lockFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
}
