package migrations_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"hubpg/internal/pgtest"
	"hubpg/migrations"
)

func TestAwaitReturnsOnceTheSchemaIsThisBinarys(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	pool, conn := db.Pool(t), db.Conn(t)
	for _, c := range []struct {
		missing string
		mend    func() error
	}{
		{"holds no hubpg schema", func() error { return migrations.Up(ctx, db.Conn(t)) }},
		{"is at version", func() error {
			_, err := conn.Exec(ctx, "update hubpg.schema_version set version = version + 1")
			return err
		}},
	} {
		told := make(chan string, 10)
		done := make(chan error, 1)
		go func() { done <- migrations.Await(ctx, pool, func(missing string) { told <- missing }) }() // ends with the mending
		if missing := <-told; !strings.Contains(missing, c.missing) {
			t.Errorf("missing: %q", missing)
		}
		select {
		case err := <-done:
			t.Fatalf("%s: returned %v before", c.missing, err)
		case <-time.After(50 * time.Millisecond):
		}
		if err := c.mend(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil || len(told) > 0 {
			t.Errorf("%s: %v, told %d times more", c.missing, err, len(told))
		}
		if _, err := conn.Exec(ctx, "update hubpg.schema_version set version = version - 1"); err != nil {
			t.Fatal(err)
		}
	}
	gone, end := context.WithCancel(ctx)
	end()
	if err := migrations.Await(gone, pool, func(string) {}); err == nil {
		t.Error("a wait that was given up has succeeded")
	}
}
