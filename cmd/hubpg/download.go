package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	embedded "github.com/fergusstrange/embedded-postgres"

	"hubpg/internal/pgtest"
)

// downloadBinaries fetches Postgres into dir, unless an earlier run has.
func downloadBinaries(ctx context.Context, dir string, scr *screen) (pgtest.Binaries, error) {
	bin := filepath.Join(dir, "bin")
	if found, err := pgtest.Inspect(bin); err == nil {
		return found, nil
	}
	scr.say("no Postgres binaries on this machine: downloading Postgres %s into %s (once, about 30 MB)", embedded.V17, dir)
	err := fetchBinaries(ctx, dir)
	found, inspectErr := pgtest.Inspect(bin)
	if inspectErr == nil {
		return found, nil
	}
	if err == nil {
		err = inspectErr
	}
	return pgtest.Binaries{}, fail(errors.Join(pgtest.ErrNoBinaries, err),
		"install Postgres (Debian: apt-get install postgresql) or point "+pgtest.BinariesVariable+" at a directory with initdb and postgres",
		"no Postgres binaries found, and the download failed: %s", networkReason(err))
}

// fetchBinaries lets the library fetch, unpack and try the binaries. Its trial run fails for root, which Postgres
// refuses, after unpacking; the caller looks at what is there.
func fetchBinaries(ctx context.Context, dir string) error {
	trial, err := os.MkdirTemp("", "hubpg-trial-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(trial) }()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		return err
	}
	server := embedded.NewDatabase(embedded.DefaultConfig().
		Version(embedded.V17).
		Port(uint32(port)).
		BinariesPath(dir).
		CachePath(filepath.Join(trial, "cache")).
		RuntimePath(filepath.Join(trial, "run")).
		Logger(io.Discard))
	if err := server.Start(); err != nil {
		return fmt.Errorf("download Postgres: %w", err)
	}
	return server.Stop()
}
