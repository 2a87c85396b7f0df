package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"time"
)

// OldestVersion is the oldest major version of Postgres that hubpg supports.
const OldestVersion = 14

// BinariesVariable names the environment variable that points at a directory with initdb and postgres.
const BinariesVariable = "HUBPG_PGBIN"

// ErrNoBinaries says that no Postgres server is installed where [FindBinaries] looks.
var ErrNoBinaries = errors.New("no Postgres server binaries found")

// VariableError says that $HUBPG_PGBIN is set and leads nowhere. It does not wrap [ErrNoBinaries]: the user has made a
// choice, and nothing else may be used instead.
type VariableError struct{ Problem error }

// Error names the variable.
func (e *VariableError) Error() string {
	return fmt.Sprintf("%s cannot be used: %v", BinariesVariable, e.Problem)
}

// Hint is what to do about it.
func (e *VariableError) Hint() string {
	return "point " + BinariesVariable + " at a directory with initdb and postgres, or unset it to look in the usual places"
}

// Binaries is a directory that holds initdb and postgres.
type Binaries struct {
	Dir     string
	Version string // "15.18"
	Major   int
}

// FindBinaries looks for a Postgres server in $HUBPG_PGBIN, the directory that pg_config names, the directories of
// the usual packages (newest first) and PATH, in this order. A variable that is set but wrong is an error, not a
// reason to look further. It returns an error wrapping [ErrNoBinaries] when there is none.
func FindBinaries() (Binaries, error) {
	if dir := os.Getenv(BinariesVariable); dir != "" {
		b, err := Inspect(dir)
		if err != nil {
			return Binaries{}, &VariableError{Problem: err}
		}
		return b, nil
	}
	var tooOld error
	for _, dir := range candidates() {
		b, err := Inspect(dir)
		if err == nil {
			return b, nil
		}
		if !errors.Is(err, ErrNoBinaries) && tooOld == nil {
			tooOld = err
		}
	}
	if tooOld != nil {
		return Binaries{}, tooOld
	}
	return Binaries{}, ErrNoBinaries
}

// Inspect checks that dir holds a Postgres server that hubpg can use. The error wraps [ErrNoBinaries] when there is
// no server in dir at all.
func Inspect(dir string) (Binaries, error) {
	for _, name := range []string{"initdb", "postgres"} {
		if _, err := exec.LookPath(filepath.Join(dir, executable(name))); err != nil {
			return Binaries{}, fmt.Errorf("%w: %s has no %s", ErrNoBinaries, dir, name)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(dir, executable("postgres")), "--version").Output()
	if err != nil {
		return Binaries{}, fmt.Errorf("ask %s for its version: %w", dir, err)
	}
	match := regexp.MustCompile(`(\d+)(\.\d+|[a-z]+\d+)*`).FindStringSubmatch(string(out))
	if match == nil {
		return Binaries{}, fmt.Errorf("ask %s for its version: unreadable answer %q", dir, strings.TrimSpace(string(out)))
	}
	major, err := strconv.Atoi(match[1])
	if err != nil {
		return Binaries{}, fmt.Errorf("ask %s for its version: %w", dir, err)
	}
	if major < OldestVersion {
		return Binaries{}, fmt.Errorf("%s is Postgres %s; version %d or newer is needed", dir, match[0], OldestVersion)
	}
	return Binaries{Dir: dir, Version: match[0], Major: major}, nil
}

// candidates lists the directories in which a server may be, best first.
func candidates() []string {
	var list []string
	if path, err := exec.LookPath("pg_config"); err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if out, err := exec.CommandContext(ctx, path, "--bindir").Output(); err == nil {
			list = append(list, strings.TrimSpace(string(out)))
		}
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", // Debian, Ubuntu
		"/usr/pgsql-*/bin",          // the project's RPMs
		"/usr/libexec/postgresql*",  // Alpine
		"/opt/homebrew/opt/postgresql@*/bin",
		"/usr/local/opt/postgresql@*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	} {
		found, _ := filepath.Glob(pattern) // only a malformed pattern fails
		sort.Slice(found, func(i, j int) bool { return versionIn(found[i]) > versionIn(found[j]) })
		list = append(list, found...)
	}
	return append(list, filepath.SplitList(os.Getenv("PATH"))...)
}

// versionIn returns the number in a directory's name, 0 without one.
func versionIn(dir string) int {
	n, err := strconv.Atoi(regexp.MustCompile(`\d+`).FindString(dir))
	if err != nil {
		return 0
	}
	return n
}

func executable(name string) string {
	if runtime.GOOS == "windows" {
		return name + ".exe"
	}
	return name
}
