package proxy_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"hubpg/proxy"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// wide is a row that does not fit the buffer of a backend, which sends its first part at once and keeps the rest until
// it hears of a Flush, a Sync or something else to do.
const wide = 9000

// sendApart sends statements in one round, each for itself, with time for Postgres to say what it will say before it has
// heard the next, and returns what was answered: a tag, a code, or the length of the first value of a row.
func sendApart(t *testing.T, conn *pgx.Conn, statements ...string) (got []string) {
	t.Helper()
	pipe := conn.PgConn().StartPipeline(deadline(t))
	for _, sql := range statements {
		pipe.SendQueryParams(sql, nil, nil, nil, nil)
		if err := pipe.Flush(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err := pipe.Sync(); err != nil {
		t.Fatal(err)
	}
	for range statements {
		r, err := pipe.GetResults()
		if err != nil {
			t.Fatalf("after %v: %v", got, err)
		}
		result := r.(*pgconn.ResultReader).Read()
		e, refused := errors.AsType[*pgconn.PgError](result.Err)
		switch {
		case refused:
			got = append(got, e.Code)
		case result.Err != nil:
			t.Fatalf("after %v: %v", got, result.Err)
		case len(result.Rows) > 0:
			got = append(got, fmt.Sprint(len(result.Rows[0][0])))
		default:
			got = append(got, result.CommandTag.String())
		}
	}
	if err := pipe.Close(); err != nil {
		t.Fatalf("after %v: %v", got, err)
	}
	return got
}

func TestAWriteIsTakenOverWhilePostgresKeepsHalfAnAnswer(t *testing.T) {
	t.Parallel()
	c := newCRM(t, nil)
	id := c.contact("half@example.com")
	conn := c.session(nil)
	got := sendApart(t, conn,
		fmt.Sprintf("select repeat('x', %d)", wide),
		fmt.Sprintf("update contacts set firstname = 'Whole' where id = %d", id),
		"select 'ab'")
	if want := []string{fmt.Sprint(wide), "UPDATE 1", "2"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("answers %v, want %v", got, want)
	}
	if name := c.hubspot("contacts", id, "firstname"); name != "Whole" {
		t.Errorf("HubSpot has %q", name)
	}
}

// A pipeline that is sent in small pieces looks like a chat. Whoever carries the session must not wait for the end of an
// answer that Postgres keeps until it hears more.
func TestAPipelineWithoutSyncIsNotHeldUp(t *testing.T) {
	t.Parallel()
	for _, after := range []int{1, 3, -1} {
		r := newRig(t, nil, func(c *proxy.Config) { c.ExpressAfter = after })
		conn := r.connect()
		for range 3 {
			statements := strings.Split(strings.Repeat(fmt.Sprintf("select repeat('x', %d);", wide), 4)+"select 'abc'", ";")
			got := sendApart(t, conn, statements...)
			if want := []string{"9000", "9000", "9000", "9000", "3"}; fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("after %d: answers %v, want %v", after, got, want)
			}
			if got := value[string](t, conn, "select 'between'"); got != "between" {
				t.Errorf("got %q", got)
			}
		}
	}
}
