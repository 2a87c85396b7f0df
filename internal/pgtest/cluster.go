package pgtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// ClusterConfig describes a server.
type ClusterConfig struct {
	Dir       string            // the data directory, made when missing or empty; required
	Bin       string            // directory of the binaries; default: what [FindBinaries] finds
	Port      int               // on 127.0.0.1; default: a free one, kept over restarts
	Prefer    int               // without Port: the port to take if it is free
	Superuser string            // default "postgres"
	Settings  map[string]string // of postgresql.conf; they win over the defaults
	Durable   bool              // survive a power cut (fsync on); tests have no use for that

	// HBA replaces the rules for connections over TCP, which by default let everybody on this machine in without a
	// password. The superuser can always connect through the socket, which only the server's own user (and root)
	// can reach.
	HBA string
}

// Mode is a way to stop a server.
type Mode int

// Fast ends sessions and stops cleanly; Immediate is a crash that the next start recovers from.
const (
	Fast Mode = iota
	Immediate
)

const (
	startTimeout = 60 * time.Second
	stopTimeout  = 30 * time.Second
	maxSocketDir = 90 // of the 104 to 108 bytes of a socket's path, less its file name
)

// Cluster is a running (or stopped) server.
type Cluster struct {
	cfg     ClusterConfig
	bin     Binaries
	acct    account
	sockets string // directory of the socket
	ownDir  bool   // sockets was made for this cluster and goes with it

	mu     sync.Mutex // serialises start and stop
	server *server    // nil when stopped
}

// server is one run of the postmaster.
type server struct {
	process *os.Process
	done    chan struct{} // closed when the process has ended
}

// Start makes the data directory if needed and starts a server over it. It returns when the server accepts
// connections. Errors: [*VersionError], [*PlaceError], [*BusyError], one wrapping [ErrNoBinaries], or what the server said.
func Start(ctx context.Context, cfg ClusterConfig) (*Cluster, error) {
	if cfg.Dir == "" {
		return nil, errors.New("start Postgres: no data directory given")
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("start Postgres: %w", err)
	}
	cfg.Dir = dir
	if cfg.Superuser == "" {
		cfg.Superuser = "postgres"
	}
	c := &Cluster{cfg: cfg}
	if cfg.Bin != "" {
		c.bin, err = Inspect(cfg.Bin)
	} else {
		c.bin, err = FindBinaries()
	}
	if err != nil {
		return nil, err
	}
	if c.acct, err = serverAccount(); err != nil {
		return nil, err
	}
	if err := prepare(ctx, dir, cfg.Superuser, c.bin, c.acct); err != nil {
		return nil, err
	}
	if err := c.placeSocket(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.start(ctx); err != nil {
		c.removeSocketDir()
		return nil, err
	}
	return c, nil
}

// Version is the version of the binaries, like "15.18".
func (c *Cluster) Version() string { return c.bin.Version }

// Port is the port on 127.0.0.1.
func (c *Cluster) Port() int { return c.cfg.Port }

// URL is the address of a database over TCP, as the superuser.
func (c *Cluster) URL(db string) string { return c.UserURL(c.cfg.Superuser, "", db) }

// UserURL is the address of a database over TCP for a role, with its password unless that is empty.
func (c *Cluster) UserURL(role, password, db string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User(role),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(c.cfg.Port)),
		Path:     "/" + db,
		RawQuery: "sslmode=disable",
	}
	if password != "" {
		u.User = url.UserPassword(role, password)
	}
	if c.cfg.Settings["ssl"] == "on" {
		u.RawQuery = ""
	}
	return u.String()
}

// SocketURL is the address of a database through the socket, as the superuser, which works whatever HBA says.
func (c *Cluster) SocketURL(db string) string {
	u := url.URL{Scheme: "postgres", User: url.User(c.cfg.Superuser), Path: "/" + db}
	q := url.Values{"host": {c.sockets}, "port": {strconv.Itoa(c.cfg.Port)}, "sslmode": {"disable"}}
	u.RawQuery = q.Encode()
	return u.String()
}

// LogFile is the path of the server's log, which begins anew with each start.
func (c *Cluster) LogFile() string { return c.logPath() }

// Log returns the end of what the server wrote to its log, at most 64 KiB.
func (c *Cluster) Log() string { return tail(c.logPath()) }

// Done is closed when the server that runs now ends, whoever ended it.
func (c *Cluster) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server == nil {
		closed := make(chan struct{})
		close(closed)
		return closed
	}
	return c.server.done
}

// Stop stops the server cleanly. Stopping a stopped server is no error.
func (c *Cluster) Stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.removeSocketDir()
	return c.stop(Fast)
}

// Kill stops the server as a crash would; what was committed is recovered at the next start.
func (c *Cluster) Kill() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stop(Immediate)
}

// Restart stops the server, if it runs, and starts it again on the same port.
func (c *Cluster) Restart(ctx context.Context, mode Mode) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.stop(mode); err != nil {
		return err
	}
	if err := dropStalePID(c.cfg.Dir); err != nil {
		return err
	}
	return c.start(ctx)
}

// placeSocket picks a directory for the socket: the data directory unless its path is too long for one.
func (c *Cluster) placeSocket() error {
	if len(c.cfg.Dir) <= maxSocketDir {
		c.sockets = c.cfg.Dir
		return nil
	}
	dir, err := os.MkdirTemp("", "hubpg-s")
	if err != nil {
		return fmt.Errorf("create socket directory: %w", err)
	}
	if err := c.acct.own(dir); err != nil {
		return fmt.Errorf("give socket directory to %s: %w", c.acct.name, err)
	}
	c.sockets, c.ownDir = dir, true
	return nil
}

func (c *Cluster) removeSocketDir() {
	if c.ownDir {
		_ = os.RemoveAll(c.sockets) // best effort: it holds nothing but a dead socket
	}
}

// Files of ours in the data directory.
const (
	logName = "server.log"
	hbaName = "pg_hba.hubpg.conf"
)

func (c *Cluster) logPath() string { return filepath.Join(c.cfg.Dir, logName) }

// start runs the postmaster and waits until it accepts connections. A port that was chosen here and taken by
// another process in the meantime is chosen again; one that the caller asked for is not.
func (c *Cluster) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, errors.New("no sign of life: Postgres did not accept connections in time"))
	defer cancel()
	chosen := c.cfg.Port == 0
	for attempt := 1; ; attempt++ {
		if chosen && attempt == 1 && c.cfg.Prefer != 0 {
			c.cfg.Port = c.cfg.Prefer
		} else if chosen {
			port, err := freePort()
			if err != nil {
				return err
			}
			c.cfg.Port = port
		}
		err := c.run(ctx)
		if err == nil {
			return nil
		}
		said := c.Log()
		retry := chosen && strings.Contains(said, "could not bind") ||
			strings.Contains(said, "shared memory block") // children of a killed server are still ending
		if !retry || attempt == 20 {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// run starts the postmaster once.
func (c *Cluster) run(ctx context.Context) error {
	if err := c.writeHBA(); err != nil {
		return err
	}
	out, err := c.acct.create(c.cfg.Dir, logName)
	if err != nil {
		return fmt.Errorf("create server log: %w", err)
	}
	defer out.Close()
	cmd := exec.Command(filepath.Join(c.bin.Dir, executable("postgres")), c.arguments()...) //nolint:noctx // stopped by signal, not by kill
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.cfg.Dir, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	c.acct.apply(cmd.SysProcAttr)
	dieWithParent(cmd.SysProcAttr)
	separateGroup(cmd.SysProcAttr)

	s, err := launch(cmd)
	if err != nil {
		return fmt.Errorf("start Postgres: %w", err)
	}
	c.server = s
	if err := c.await(ctx, s); err != nil {
		_ = c.stop(Immediate)
		return err
	}
	return nil
}

// launch starts cmd on a thread that lives until cmd ends: the kernel takes the end of the starting thread, not of
// the process, as the death of the parent.
func launch(cmd *exec.Cmd) (*server, error) {
	s := &server{done: make(chan struct{})}
	started := make(chan error, 1)
	go func() { // ends with the server, which stop waits for
		defer close(s.done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		s.process = cmd.Process
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return s, nil
}

// await returns when the server accepts connections.
func (c *Cluster) await(ctx context.Context, s *server) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, c.SocketURL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-s.done:
			return fmt.Errorf("start Postgres: %s", complaint(c.Log()))
		case <-ctx.Done():
			return fmt.Errorf("start Postgres: %w: %s", context.Cause(ctx), lastLine(c.Log()))
		case <-tick.C:
		}
	}
}

// stop ends the running server, harder if it does not listen.
func (c *Cluster) stop(mode Mode) error {
	s := c.server
	if s == nil {
		return nil
	}
	c.server = nil
	signal := signalFast
	if mode == Immediate {
		signal = signalImmediate
	}
	for _, signal := range []os.Signal{signal, signalImmediate, os.Kill} {
		if err := s.process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop Postgres: %w", err)
		}
		select {
		case <-s.done:
			return nil
		case <-time.After(stopTimeout):
		}
	}
	return fmt.Errorf("stop Postgres: process %d does not end", s.process.Pid)
}

// arguments are the postmaster's command line: settings are given here and not in postgresql.conf, so that a data
// directory used again always runs with those of today.
func (c *Cluster) arguments() []string {
	settings := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"port":                    strconv.Itoa(c.cfg.Port),
		"unix_socket_directories": c.sockets,
		"unix_socket_permissions": "0700",
		"hba_file":                filepath.Join(c.cfg.Dir, hbaName),
		"shared_buffers":          "32MB",
		"max_connections":         "200",
		"timezone":                "UTC",
		"log_timezone":            "UTC",
		"logging_collector":       "off",
		"log_destination":         "stderr",
		"fsync":                   "on",
	}
	if !c.cfg.Durable {
		settings["fsync"] = "off"
		settings["full_page_writes"] = "off"
	}
	maps.Copy(settings, c.cfg.Settings)
	names := make([]string, 0, len(settings))
	for name := range settings {
		names = append(names, name)
	}
	sort.Strings(names)
	args := []string{"-D", c.cfg.Dir}
	for _, name := range names {
		args = append(args, "-c", name+"="+settings[name])
	}
	return args
}

func (c *Cluster) writeHBA() error {
	rules := c.cfg.HBA
	if rules == "" {
		rules = "host all all 127.0.0.1/32 trust\nlocal all all trust\n"
	}
	text := fmt.Sprintf("local all %s trust\n%s\n", c.cfg.Superuser, rules)
	file, err := c.acct.create(c.cfg.Dir, hbaName)
	if err != nil {
		return fmt.Errorf("write pg_hba: %w", err)
	}
	_, err = file.WriteString(text)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("write pg_hba: %w", err)
	}
	return nil
}

// freePort asks the system for a port that nobody uses now.
func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // does not block
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// complaint is the line of a server's log that says why it ended.
func complaint(log string) string {
	for line := range strings.Lines(log) {
		for _, mark := range []string{"could not bind ", "FATAL:  ", "PANIC:  "} {
			if at := strings.Index(line, mark); at >= 0 {
				return strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(line[at:], "FATAL:"), "PANIC:"))
			}
		}
	}
	return lastLine(log)
}

// tail reads the last 64 KiB of a file; it is empty when there is none.
func tail(path string) string {
	const limit = 64 << 10
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return ""
	}
	buf := make([]byte, min(info.Size(), limit))
	n, _ := file.ReadAt(buf, max(0, info.Size()-limit)) // a log that shrinks meanwhile gives less
	return string(buf[:n])
}
