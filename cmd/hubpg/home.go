package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"hubpg/internal/sandbox"
)

// home is the directory of a demo. One process at a time uses it.
//
// The sandbox lives in memory and is written to the directory when the demo stops. While the demo runs the directory
// is marked as dirty: a demo that was killed leaves a mirror that may be ahead of the kept sandbox, which no real
// account could ever be, so the next run fills the mirror anew.
type home struct {
	dir      string
	lock     *os.File
	manifest manifest
	fresh    bool // nothing was here before
	clean    bool // the mirror and the kept sandbox belong together
}

// manifest is what has to stay the same from run to run.
type manifest struct {
	Seed     int64 `json:"seed"`
	Contacts int   `json:"contacts"`
}

// errLocked says that another process holds the lock.
var errLocked = errors.New("locked by another process")

// Files in the directory.
const (
	manifestFile = "demo.json"
	accountFile  = "sandbox.state"
	dirtyFile    = "running"
)

// defaultHome is a cache directory. A server that root starts runs as another user, to whom root's own is closed.
func defaultHome() string {
	if os.Geteuid() == 0 && os.Getenv("XDG_CACHE_HOME") == "" {
		return "/var/cache/hubpg/demo"
	}
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "hubpg", "demo")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("hubpg-demo-%d", os.Getuid()))
}

// openHome locks the directory and reads what an earlier run left.
func openHome(_ context.Context, o demoOptions) (_ *home, err error) {
	dir := o.data
	if dir == "" {
		dir = defaultHome()
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("find data directory: %w", err)
	}
	h := &home{dir: dir}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // the server's user has to pass through
		return nil, fail(err, "choose another directory with --data", "cannot create data directory %s: %s", dir, networkReason(err))
	}
	switch h.lock, err = lockFile(h.path("lock")); {
	case errors.Is(err, errLocked):
		return nil, fail(err, "stop the other demo, or choose another directory with --data",
			"data directory %s is in use: another hubpg demo runs in it", dir)
	case err != nil:
		return nil, fail(err, "choose another directory with --data", "cannot write to data directory %s: %s", dir, networkReason(err))
	}
	defer func() {
		if err != nil {
			_ = h.close()
		}
	}()
	if err := h.readManifest(o); err != nil {
		return nil, err
	}
	_, dirty := os.Stat(h.path(dirtyFile))
	_, kept := os.Stat(h.path(accountFile))
	h.clean = dirty != nil && kept == nil
	return h, nil
}

func (h *home) path(name string) string { return filepath.Join(h.dir, name) }

func (h *home) close() error { return h.lock.Close() }

func (h *home) readManifest(o demoOptions) error {
	text, err := os.ReadFile(h.path(manifestFile))
	if errors.Is(err, fs.ErrNotExist) {
		h.fresh = true
		h.manifest = manifest{Seed: 1, Contacts: o.contacts}
		text, err = json.Marshal(h.manifest)
		if err != nil {
			return fmt.Errorf("write manifest: %w", err)
		}
		return writeFile(h.path(manifestFile), text)
	}
	if err == nil {
		err = json.Unmarshal(text, &h.manifest)
	}
	if err != nil {
		return fail(err, "remove the directory or choose another one with --data", "cannot read %s: %s", h.path(manifestFile), cause(err))
	}
	if o.contactsGiven && o.contacts != h.manifest.Contacts {
		return fail(nil, fmt.Sprintf("choose another directory with --data, remove this one, or leave --contacts at %d", h.manifest.Contacts),
			"data directory %s holds a company of %d contacts, not %d", h.dir, h.manifest.Contacts, o.contacts)
	}
	return nil
}

// account makes the sandbox: as the last run kept it, else from the seed.
func (h *home) account(o demoOptions) (*sandbox.Server, error) {
	cfg := sandbox.Config{
		Seed: h.manifest.Seed, Contacts: h.manifest.Contacts, Token: sandbox.DefaultToken, Quiet: o.quiet,
	}
	file, err := os.Open(h.path(accountFile))
	if errors.Is(err, fs.ErrNotExist) {
		return sandbox.New(cfg), nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the kept sandbox: %w", err)
	}
	defer file.Close()
	account, err := sandbox.Restore(cfg, file)
	if err != nil {
		return nil, fail(err, "remove the directory or choose another one with --data",
			"cannot read the kept sandbox %s: %s", h.path(accountFile), cause(err))
	}
	return account, nil
}

// markDirty says that the mirror may run ahead of the kept sandbox from now on.
func (h *home) markDirty() error { return writeFile(h.path(dirtyFile), nil) }

// keep writes the sandbox's state, then says that it and the mirror belong together.
func (h *home) keep(account *sandbox.Server) error {
	file, err := os.OpenFile(h.path(accountFile+".new"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("keep the sandbox: %w", err)
	}
	err = errors.Join(account.Save(file), file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(h.path(accountFile+".new"), h.path(accountFile))
	}
	if err == nil {
		err = os.Remove(h.path(dirtyFile))
	}
	if err != nil {
		return fmt.Errorf("keep the sandbox: %w", err)
	}
	return nil
}

// writeFile replaces a file in one step.
func writeFile(path string, text []byte) error {
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	return nil
}
