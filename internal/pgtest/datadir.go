package pgtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// VersionError says that a data directory was made by another major version of Postgres.
type VersionError struct {
	Dir      string
	Found    string // what made it
	Binaries Binaries
}

// Error names both versions.
func (e *VersionError) Error() string {
	return fmt.Sprintf("data directory %s was made by Postgres %s, but the binaries in %s are version %s",
		e.Dir, e.Found, e.Binaries.Dir, e.Binaries.Version)
}

// Hint is what to do about it.
func (e *VersionError) Hint() string {
	if major, err := strconv.Atoi(e.Found); err != nil || major < OldestVersion { // before 10 it is 9.6
		return fmt.Sprintf("version %d or newer is needed: remove %s to start afresh, or choose another directory", OldestVersion, e.Dir)
	}
	return fmt.Sprintf("point %s at the binaries of Postgres %s, or remove %s to start afresh",
		BinariesVariable, e.Found, e.Dir)
}

// BusyError says that a live server already uses a data directory.
type BusyError struct {
	Dir string
	PID int
}

// Error names the directory and the process.
func (e *BusyError) Error() string {
	return fmt.Sprintf("data directory %s is in use by the Postgres server with process id %d", e.Dir, e.PID)
}

// Hint is what to do about it.
func (e *BusyError) Hint() string {
	return fmt.Sprintf("stop that process (kill -INT %d) or choose another directory", e.PID)
}

// PlaceError says why a directory cannot be a data directory.
type PlaceError struct{ Dir, Problem, Remedy string }

// Error names the directory and the problem.
func (e *PlaceError) Error() string {
	return "data directory " + e.Dir + " cannot be used: " + e.Problem
}

// Hint is what to do about it.
func (e *PlaceError) Hint() string { return e.Remedy }

// prepare makes dir a data directory of bin's version that no server uses.
func prepare(ctx context.Context, dir, superuser string, bin Binaries, acct account) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create data directory: %w", err)
	}
	if err := acct.reach(dir); err != nil {
		return err
	}
	found, err := os.ReadFile(filepath.Join(dir, "PG_VERSION"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return initialise(ctx, dir, superuser, bin, acct)
	case err != nil:
		return fmt.Errorf("read version of data directory: %w", err)
	}
	switch version := strings.TrimSpace(string(found)); version {
	case strconv.Itoa(bin.Major):
	case "":
		return &PlaceError{dir, "its file PG_VERSION is empty", "remove " + dir + " to start afresh, or choose another directory"}
	default:
		return &VersionError{Dir: dir, Found: version, Binaries: bin}
	}
	if err := acct.own(dir); err != nil {
		return fmt.Errorf("give data directory to %s: %w", acct.name, err)
	}
	return dropStalePID(dir)
}

// initialise runs initdb. It works in a directory beside dir and renames it, so that an interrupted run leaves
// nothing that looks like a data directory.
func initialise(ctx context.Context, dir, superuser string, bin Binaries, acct account) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read data directory: %w", err)
	}
	if len(entries) > 0 {
		return &PlaceError{dir, "it is neither empty nor Postgres's", "choose another directory, or empty this one"}
	}
	fresh := dir + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("remove remains of an earlier start: %w", err)
	}
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return fmt.Errorf("create data directory: %w", err)
	}
	if err := acct.own(fresh); err != nil {
		return fmt.Errorf("give data directory to %s: %w", acct.name, err)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin.Dir, executable("initdb")),
		"--pgdata", fresh, "--username", superuser, "--auth", "trust", "--encoding", "UTF8",
		"--locale", "C", "--no-sync", "--no-instructions")
	cmd.Dir = fresh
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	acct.apply(cmd.SysProcAttr)
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return fmt.Errorf("run initdb: %w", context.Cause(ctx))
	}
	if err != nil {
		return fmt.Errorf("run initdb: %w: %s", err, lastLine(string(out)))
	}
	if err := os.Remove(dir); err != nil {
		return fmt.Errorf("replace data directory: %w", err)
	}
	if err := os.Rename(fresh, dir); err != nil {
		return fmt.Errorf("replace data directory: %w", err)
	}
	return nil
}

const pidFile = "postmaster.pid"

// dropStalePID removes the pid file of a server that is dead or whose process id belongs to a stranger by now,
// which Postgres itself cannot tell. It returns [*BusyError] when the server is alive.
func dropStalePID(dir string) error {
	pid, err := readPID(dir)
	if pid == 0 || err != nil {
		return err
	}
	if alive(pid) && isServer(pid) {
		return &BusyError{Dir: dir, PID: pid}
	}
	if err := os.Remove(filepath.Join(dir, pidFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove stale pid file: %w", err)
	}
	return nil
}

// readPID returns the process id in dir's pid file, 0 when there is no such file or it is unreadable.
func readPID(dir string) (int, error) {
	file, err := os.Open(filepath.Join(dir, pidFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read pid file: %w", err)
	}
	defer file.Close()
	line, err := bufio.NewReaderSize(file, 64).ReadString('\n')
	if err != nil {
		return 0, nil //nolint:nilerr // an empty or half-written file is what a crash leaves
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || pid <= 1 {
		return 0, nil //nolint:nilerr // as above
	}
	return pid, nil
}

// StopOrphan stops the server that an earlier process left running over dir, if there is one. The caller makes
// sure, by a lock of its own, that the process which started the server is gone.
func StopOrphan(ctx context.Context, dir string) error {
	pid, err := readPID(dir)
	if pid == 0 || err != nil || !alive(pid) || !isServer(pid) {
		return err
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		return nil //nolint:nilerr // gone in the meantime
	}
	if err := process.Signal(signalFast); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop orphaned server: %w", err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for alive(pid) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("stop orphaned server %d: %w", pid, context.Cause(ctx))
		case <-tick.C:
		}
	}
	return nil
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
