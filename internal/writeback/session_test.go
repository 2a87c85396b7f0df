package writeback_test

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"hubpg/internal/writeback"
)

// session is a client's session as the proxy drives it: a statement runs twice, HubSpot is called in between.
type session struct {
	a      *account
	conn   *pgx.Conn
	writer *writeback.Writer
	permit string
	dryRun bool
	skip   bool
	open   []int64 // writes of the transaction that wait for its end
	notes  []writeback.Notice

	between func() // called after HubSpot has been called, before the performance
}

func (a *account) session() *session {
	a.t.Helper()
	s := &session{a: a, conn: a.connect(), writer: a.writer}
	s.allow()
	return s
}

func (s *session) allow() {
	var err error
	s.permit, err = s.writer.Permit(s.a.t.Context(), s.conn.PgConn().PID(), "app")
	s.a.must(err)
}

// result is what the client sees.
type result struct {
	tag  string
	rows [][]any
}

func (r *result) String() string {
	var lines []string
	for _, row := range r.rows {
		lines = append(lines, strings.Trim(fmt.Sprint(row), "[]"))
	}
	return strings.Join(lines, "\n")
}

// run executes one statement.
func (s *session) run(sql string, args ...any) (*result, error) {
	s.a.t.Helper()
	ctx := s.a.t.Context()
	own := s.conn.PgConn().TxStatus() == 'I'
	if own {
		s.exec("begin")
	}
	res, err := s.twice(ctx, sql, args)
	switch {
	case err != nil && own:
		s.exec("rollback")
		s.ended(false)
	case own:
		s.exec("commit")
		s.ended(true)
	}
	return res, err
}

// ended tells the writer of the end of the transaction.
func (s *session) ended(committed bool) {
	s.a.t.Helper()
	for _, id := range s.open {
		s.a.must(s.writer.Settle(s.a.t.Context(), id, committed))
	}
	s.open = nil
}

func (s *session) twice(ctx context.Context, sql string, args []any) (*result, error) {
	s.exec("savepoint hubpg_write")
	s.exec("select hubpg.rehearse($1)", s.permit)
	if _, err := s.plain(ctx, sql, args); err != nil {
		s.exec("rollback to savepoint hubpg_write")
		return nil, err
	}
	rows, err := s.conn.Query(ctx, "select * from hubpg.rehearsed($1)", s.permit)
	s.a.must(err)
	var locks []int64
	captured, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r writeback.Row, err error) {
		return r, row.Scan(&r.N, &r.Schema, &r.Table, &r.Op, &r.Old, &r.New, &locks)
	})
	s.a.must(err)
	s.exec("rollback to savepoint hubpg_write")
	if len(captured) == 0 {
		res, err := s.plain(ctx, sql, args)
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == writeback.CodeDirect {
			s.exec("rollback to savepoint hubpg_write") // there is something to change by now
			return s.twice(ctx, sql, args)
		}
		return res, err
	}
	names := map[string]bool{}
	var tables []string
	for _, r := range captured {
		if name := r.Schema + "." + r.Table; !names[name] {
			names[name], tables = true, append(tables, name)
		}
	}
	if locks == nil {
		s.exec("select hubpg.lock_tables($1, $2)", s.permit, tables)
	}
	res, err := s.writer.Write(ctx, writeback.Request{
		Permit: s.permit, PID: s.conn.PgConn().PID(), Role: "app", Application: "test", SQL: sql,
		DryRun: s.dryRun, SkipBadRows: s.skip, Rows: captured,
	})
	s.notes = append(s.notes, res.Notices...)
	if s.between != nil {
		s.between()
	}
	if err != nil {
		s.exec("select hubpg.unlock_tables()")
		return nil, err
	}
	if s.dryRun {
		s.exec("select hubpg.unlock_tables()")
		return &result{}, nil
	}
	if res.ID != 0 {
		s.open = append(s.open, res.ID)
	}
	s.exec("select hubpg.perform($1, $2)", s.permit, res.Answers)
	out, err := s.plain(ctx, sql, args)
	if err == nil {
		_, err = s.conn.Exec(ctx, "select hubpg.performed($1, $2)", s.permit, locks)
	}
	if err != nil {
		s.exec("rollback to savepoint hubpg_write")
		s.exec("select hubpg.unlock_tables()")
	}
	s.exec("release savepoint hubpg_write")
	return out, err
}

func (s *session) plain(ctx context.Context, sql string, args []any) (*result, error) {
	rows, err := s.conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	res := &result{}
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			rows.Close()
			return nil, err
		}
		res.rows = append(res.rows, values)
	}
	res.tag = rows.CommandTag().String()
	return res, rows.Err()
}

// exec runs a statement of the protocol or of transaction control, which must not fail.
func (s *session) exec(sql string, args ...any) {
	s.a.t.Helper()
	if _, err := s.conn.Exec(s.a.t.Context(), sql, args...); err != nil {
		s.a.t.Fatalf("%s: %v", sql, err)
	}
}

// do runs a statement that must succeed.
func (s *session) do(sql string, args ...any) *result {
	s.a.t.Helper()
	res, err := s.run(sql, args...)
	if err != nil {
		s.a.t.Fatalf("%s: %v", sql, err)
	}
	return res
}

// refused runs a statement that must fail with the code, and returns hubpg's error if it is one.
func (s *session) refused(code, sql string, args ...any) *writeback.Error {
	s.a.t.Helper()
	_, err := s.run(sql, args...)
	if own, ok := errors.AsType[*writeback.Error](err); ok {
		if own.Code != code {
			s.a.t.Fatalf("%s: %v, want %s", sql, own, code)
		}
		return own
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != code {
		s.a.t.Fatalf("%s: %v, want %s", sql, err, code)
	}
	return nil
}
