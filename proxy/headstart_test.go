package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"hubpg/internal/pgtest"
	"hubpg/proxy"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"
)

// turnstile passes connections on to a cluster and counts those that are open.
type turnstile struct {
	listener net.Listener

	mu         sync.Mutex // guards below
	open, peak int
}

func (g *turnstile) turn(by int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open += by
	g.peak = max(g.peak, g.open)
}

// state is how many are open, and how many have been at once since the last time.
func (g *turnstile) state() (open, peak int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	peak, g.peak = g.peak, g.open
	return g.open, peak
}

func newTurnstile(t *testing.T, cluster *pgtest.Cluster) *turnstile {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	g := &turnstile{listener: l}
	var passing errgroup.Group
	passing.Go(func() error {
		for {
			in, err := l.Accept()
			if err != nil {
				return nil // the end of the test
			}
			passing.Go(func() error { return g.pass(in, fmt.Sprintf("127.0.0.1:%d", cluster.Port())) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		if err := passing.Wait(); err != nil {
			t.Errorf("turnstile: %v", err)
		}
	})
	return g
}

func (g *turnstile) pass(in net.Conn, address string) error {
	defer in.Close()
	var dialer net.Dialer
	out, err := dialer.DialContext(context.Background(), "tcp", address)
	if err != nil {
		return err
	}
	g.turn(1)
	defer g.turn(-1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(out, in) // up to either's end
		out.Close()
	}()
	_, _ = io.Copy(in, out)
	in.Close()
	<-done
	return nil
}

// hesitation is what clients do before they send their proof, until the channel is closed; who receives something leaves without it.
type hesitation struct {
	until chan struct{}
	asked atomic.Int64 // clients that might prove their password now
}

func newHesitation() *hesitation { return &hesitation{until: make(chan struct{})} }

// hesitant is the connection of such a client. Start-up and the first message of SCRAM go before the proof.
type hesitant struct {
	net.Conn
	*hesitation
	writes int
}

func (h *hesitant) Write(b []byte) (int, error) {
	if h.writes++; h.writes == 3 {
		h.asked.Add(1)
		if _, leaves := <-h.until; leaves {
			return 0, errors.New("the client has thought better of it")
		}
	}
	return h.Conn.Write(b)
}

func (h *hesitation) connect(ctx context.Context, address string) (*pgconn.PgConn, error) {
	config, err := pgconn.ParseConfig(address)
	if err != nil {
		return nil, err
	}
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, network, address)
		return &hesitant{Conn: conn, hesitation: h}, err
	}
	return pgconn.ConnectConfig(ctx, config)
}

// TestALoginBeginsAheadForRegularsOnly: Postgres does nothing for who has proved nothing, unless the same role has logged in from there
// before, and then little.
func TestALoginBeginsAheadForRegularsOnly(t *testing.T) {
	t.Parallel()
	cluster, _ := guarded(t, false)
	admin := open(t, cluster.SocketURL("postgres"), nil)
	exec(t, admin, "alter role open password 's3cret'") // whom Postgres trusts all the same
	exec(t, admin, "create role other login password 's3cret'")
	gate := newTurnstile(t, cluster)
	enter := func(t *testing.T, change func(*proxy.Config)) *verifying {
		return newVerifying(t, cluster, "", false, func(c *proxy.Config) {
			c.Upstream = "postgres://" + gate.listener.Addr().String() + "/postgres?sslmode=disable"
			if change != nil {
				change(c)
			}
		})
	}
	ahead := func(t *testing.T, v *verifying, want int64) {
		t.Helper()
		if got := v.server.Stats().HeadStarts; got != want {
			t.Errorf("%d head starts, want %d", got, want)
		}
	}
	login := func(t *testing.T, v *verifying, user string, params ...string) *pgx.Conn {
		t.Helper()
		conn := open(t, v.as(user, "s3cret", params...), nil)
		if got := value[string](t, conn, "select current_user::text"); got != user {
			t.Errorf("%s was logged in as %s", user, got)
		}
		return conn
	}
	refused := func(t *testing.T, v *verifying, user, password, code string) {
		t.Helper()
		if _, err := pgconn.Connect(deadline(t), v.as(user, password)); !isCode(err, code) {
			t.Errorf("%s: %v", user, err)
		}
	}

	t.Run("who they are", func(t *testing.T) {
		v := enter(t, nil)
		login(t, v, "scram")
		ahead(t, v, 0)
		conn := login(t, v, "scram", "application_name=shop", "work_mem=77kB")
		ahead(t, v, 1)
		if got := value[string](t, conn, "select concat_ws(' ', current_setting('application_name'), current_setting('work_mem'))"); got != "shop 77kB" {
			t.Errorf("parameters: %s", got)
		}
		if got, want := value[int32](t, conn, "select pg_backend_pid()"), int32(conn.PgConn().PID()); got != want {
			t.Errorf("process id: got %d, told %d", got, want)
		}
		login(t, v, "other")
		ahead(t, v, 1)
		refused(t, v, "scram", "wrong", "28P01")
		ahead(t, v, 2)
		for range 3 { // which was the last for some time
			refused(t, v, "scram", "wrong", "28P01")
			refused(t, v, "nobody", "wrong", "28P01")
		}
		ahead(t, v, 2)
		login(t, v, "scram")
		ahead(t, v, 2)
		login(t, v, "scram")
		ahead(t, v, 3)
		exec(t, admin, "alter role scram nologin")
		refused(t, v, "scram", "s3cret", "28000")
		exec(t, admin, "alter role scram login password 'new'")
		refused(t, v, "scram", "s3cret", "28P01")
		open(t, v.as("scram", "new"), nil)
		exec(t, admin, "alter role scram password 's3cret'")
		for range 3 {
			login(t, v, "open")
		}
		ahead(t, v, 4) // none where Postgres asks for nothing
	})
	t.Run("how many, and how long", func(t *testing.T) {
		v := enter(t, nil)
		login(t, v, "scram")
		before, _ := gate.state()
		const clients, places = 12, 8
		hesitate := newHesitation()
		var connecting errgroup.Group
		for range clients {
			connecting.Go(func() error {
				conn, err := hesitate.connect(deadline(t), v.as("scram", "s3cret"))
				if err != nil {
					return err
				}
				return conn.Close(deadline(t))
			})
		}
		eventually(t, "all are asked for a proof", func() bool { return hesitate.asked.Load() == clients })
		most := 0
		eventually(t, "what was begun for them is over", func() bool {
			open, peak := gate.state()
			most = max(most, peak)
			return open == before && v.server.Stats().HeadStarts >= places
		})
		if most > before+places {
			t.Errorf("%d connections for clients that have proved nothing", most-before)
		}
		close(hesitate.until)
		if err := connecting.Wait(); err != nil {
			t.Errorf("late: %v", err)
		}
		begun := v.server.Stats().HeadStarts
		login(t, v, "scram")
		ahead(t, v, begun+1) // their places are free again
	})
	t.Run("who goes without a proof", func(t *testing.T) {
		v := enter(t, nil)
		login(t, v, "scram")
		before, _ := gate.state()
		hesitate := newHesitation()
		for range 3 {
			gone := make(chan error, 1)
			go func() {
				_, err := hesitate.connect(deadline(t), v.as("scram", "s3cret"))
				gone <- err
			}()
			hesitate.until <- struct{}{}
			if err := <-gone; err == nil {
				t.Error("it has logged in")
			}
			eventually(t, "it is gone, and what was begun for it", func() bool {
				open, _ := gate.state()
				return v.server.Stats().Sessions == 1 && open == before
			})
		}
		ahead(t, v, 1)
	})
	t.Run("a kept backend is better", func(t *testing.T) {
		v := enter(t, func(c *proxy.Config) { c.Limits.KeptBackends = 4 })
		for range 3 {
			v.leave(login(t, v, "scram"), 1)
		}
		ahead(t, v, 0)
		login(t, v, "scram", "application_name=shop")
		ahead(t, v, 1)
	})
	t.Run("where Postgres asks for nothing any more", func(t *testing.T) {
		v := enter(t, nil)
		login(t, v, "scram")
		exec(t, admin, "do $$ begin execute format('copy (values (''local all all trust''), (''host all all 127.0.0.1/32 trust'')) to %L', "+
			"current_setting('hba_file')); end $$")
		exec(t, admin, "select pg_reload_conf()")
		eventually(t, "Postgres trusts", func() bool {
			conn, err := pgconn.Connect(deadline(t), fmt.Sprintf("postgres://scram@127.0.0.1:%d/postgres?sslmode=disable", cluster.Port()))
			return err == nil && conn.Close(deadline(t)) == nil
		})
		for range 3 {
			login(t, v, "scram")
			refused(t, v, "scram", "wrong", "28P01")
		}
		ahead(t, v, 1)
	})
}

// TestAServerThatStopsEndsHeadStarts together with those they are for.
func TestAServerThatStopsEndsHeadStarts(t *testing.T) {
	t.Parallel()
	cluster, _ := guarded(t, false)
	v := newVerifying(t, cluster, "", false, nil)
	if err := open(t, v.as("scram", "s3cret"), nil).Close(deadline(t)); err != nil {
		t.Fatalf("close: %v", err)
	}
	hesitate := newHesitation()
	ended := make(chan error, 1)
	go func() {
		_, err := hesitate.connect(deadline(t), v.as("scram", "s3cret"))
		ended <- err
	}()
	eventually(t, "a login is begun", func() bool { return v.server.Stats().HeadStarts == 1 })
	if err := v.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	close(hesitate.until)
	if err := <-ended; err == nil {
		t.Error("it has logged in")
	} else if e, ok := errors.AsType[*pgconn.PgError](err); ok && !strings.HasPrefix(e.Code, "57P") {
		t.Errorf("it was told %v", err)
	}
}
