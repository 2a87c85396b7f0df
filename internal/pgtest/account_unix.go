//go:build unix

package pgtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the operating system's user under which a server runs.
type account struct {
	name     string
	uid, gid int
	other    bool // not the user of this process: files must be given to it
}

// serverAccount picks the user of a server: the process's own one, or, for root (which Postgres refuses), the
// first of postgres and nobody that exists.
func serverAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{uid: os.Geteuid(), gid: os.Getegid()}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.Atoi(u.Uid)
		if err != nil || uid == 0 {
			continue
		}
		gid, err := strconv.Atoi(u.Gid)
		if err != nil {
			continue
		}
		return account{name: name, uid: uid, gid: gid, other: true}, nil
	}
	const overflow = 65534 // what the kernel calls nobody where no user database says so
	return account{name: "nobody", uid: overflow, gid: overflow, other: true}, nil
}

// apply makes attr start a process under the account.
func (a account) apply(attr *syscall.SysProcAttr) {
	if a.other {
		attr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid), NoSetGroups: false}
	}
}

// own gives a directory, and everything in it, to the account. The walk stays below dir whatever the account makes of
// it meanwhile: this process may be root and the account must not lead it elsewhere by a link.
func (a account) own(dir string) error {
	if !a.other {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = root.Lchown(name, a.uid, a.gid)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // sockets and temporary files of a dead server may vanish
		}
		return err
	})
}

// create opens a new, empty file in dir that the account may read and write.
func (a account) create(dir, name string) (*os.File, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	file, err := root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil || !a.other {
		return file, err
	}
	if err := file.Chown(a.uid, a.gid); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// reach reports why the account cannot get to dir, which needs the execute bit on every directory above it.
func (a account) reach(dir string) error {
	if !a.other {
		return nil
	}
	for parent := filepath.Dir(dir); ; parent = filepath.Dir(parent) {
		info, err := os.Stat(parent)
		if err != nil {
			return fmt.Errorf("inspect directory: %w", err)
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if ok && !a.enters(info.Mode().Perm(), int(stat.Uid), int(stat.Gid)) {
			return &PlaceError{
				dir, fmt.Sprintf("Postgres runs as %s here (it refuses root), which may not enter %s (mode %04o)", a.name, parent, info.Mode().Perm()),
				"choose a directory elsewhere, for instance below /var/tmp",
			}
		}
		if parent == filepath.Dir(parent) {
			return nil
		}
	}
}

func (a account) enters(mode fs.FileMode, uid, gid int) bool {
	switch {
	case uid == a.uid:
		return mode&0o100 != 0
	case gid == a.gid:
		return mode&0o010 != 0
	default:
		return mode&0o001 != 0
	}
}

// alive reports whether a process with this id exists.
func alive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

// The signals by which a postmaster is told how to stop.
var (
	signalFast      os.Signal = syscall.SIGINT
	signalImmediate os.Signal = syscall.SIGQUIT
)

// separateGroup keeps a Ctrl-C at the terminal from reaching the server before its parent has let go of it.
func separateGroup(attr *syscall.SysProcAttr) { attr.Setpgid = true }
