package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"hubpg/proxy"

	"github.com/jackc/pgx/v5"
)

// copied is so many rows of 50 kB.
func copied(n int) []byte {
	var out bytes.Buffer
	for i := range n {
		fmt.Fprintf(&out, "%d%s\n", i, strings.Repeat("x", 50_000))
	}
	return out.Bytes()
}

// The files with the data of all sessions' COPYs have one bound. Who finds no room is told so and goes on, and the room is given back
// however a COPY ends.
func TestCopyDataOfAllSessionsHasABound(t *testing.T) {
	t.Parallel()
	c := newCRM(t, func(c *proxy.Config) { c.Limits.CopyDisk = 3 << 20 })
	run := func(ctx context.Context, conn *pgx.Conn, r io.Reader, into string) error {
		_, err := conn.PgConn().CopyFrom(ctx, r, "copy "+into+" from stdin")
		return err
	}
	free := func(after string) {
		t.Helper()
		eventually(t, "no data is kept after "+after, func() bool { return c.server.Stats().Spooled == 0 })
	}
	const companies = "companies (name)"
	first, second := c.session(nil), c.session(nil)
	data, more := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(context.Background(), first, data, "contacts (lastname)") }()
	if _, err := more.Write(copied(60)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first has a file", func() bool { return c.server.Stats().Spooled > 1<<20 })
	if err := run(deadline(t), second, bytes.NewReader(copied(60)), companies); !isCode(err, "53100") {
		t.Errorf("beyond the bound: %v", err)
	}
	if got := value[int32](t, second, "select 1"); got != 1 || c.server.Stats().NotHeld != 1 || len(c.writer.requests()) != 0 {
		t.Errorf("%d not held, %d requests", c.server.Stats().NotHeld, len(c.writer.requests()))
	}
	first.PgConn().Conn().Close() // in the midst of its data
	more.Close()
	if err := <-ended; err == nil {
		t.Error("a session that is gone has copied")
	}
	free("a disconnect")

	if err := run(deadline(t), second, bytes.NewReader(copied(60)), companies); err != nil {
		t.Errorf("with room again: %v", err)
	}
	free("a success")
	if err := run(deadline(t), second, bytes.NewReader(append(copied(60), "one\ttoo many\n"...)), companies); err == nil {
		t.Error("a column too many was taken")
	}
	free("a failure")

	c.writer.mu.Lock()
	c.writer.hold, c.writer.entered = make(chan struct{}), make(chan struct{}, 1)
	entered := c.writer.entered
	c.writer.mu.Unlock()
	go func() { ended <- run(context.Background(), second, bytes.NewReader(copied(60)), companies) }()
	<-entered
	if c.server.Stats().Spooled == 0 {
		t.Error("the data is not kept while HubSpot is waited for")
	}
	if err := second.PgConn().CancelRequest(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !isCode(err, "57014") {
		t.Errorf("canceled: %v", err)
	}
	free("a cancel")
}
