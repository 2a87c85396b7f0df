package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/config"
	"hubpg/internal/pgtest"
)

// The demo's database and the ordinary role that owns it. The superuser is reachable through the socket only, which
// lies in a directory that is closed to other users.
const (
	demoRole     = "hubpg"
	demoDatabase = "hubpg"
	demoHBA      = "host " + demoDatabase + " " + demoRole + " 127.0.0.1/32 trust"
)

// demoPort is the private Postgres's port when it is free.
const demoPort = 6544

// startDatabase starts the private Postgres, downloading binaries when there are none.
func startDatabase(ctx context.Context, h *home, scr *screen) (*pgtest.Cluster, error) {
	bin, err := pgtest.FindBinaries()
	if errors.Is(err, pgtest.ErrNoBinaries) {
		bin, err = downloadBinaries(ctx, h.path("binaries"), scr)
	}
	if err != nil {
		return nil, err
	}
	dir := h.path("postgres")
	if err := pgtest.StopOrphan(ctx, dir); err != nil { // the lock on h says that nobody else wants it
		return nil, err
	}
	scr.say("starting Postgres %s in %s", bin.Version, dir)
	cfg := pgtest.ClusterConfig{
		Dir: dir, Bin: bin.Dir, HBA: demoHBA, Durable: true, Prefer: demoPort,
		Settings: map[string]string{"shared_buffers": "64MB", "synchronous_commit": "off"},
	}
	return pgtest.Start(ctx, cfg)
}

// prepareDatabase makes role and database unless they are there, and returns the database's address. A mirror that
// may be ahead of the kept sandbox is thrown away.
func prepareDatabase(ctx context.Context, db *pgtest.Cluster, h *home) (url string, err error) {
	conn, err := pgx.Connect(ctx, db.SocketURL("postgres"))
	if err != nil {
		return "", fmt.Errorf("prepare database: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	var role, database bool
	err = conn.QueryRow(ctx, `
select exists (select from pg_roles where rolname = $1),
       exists (select from pg_database where datname = $2)`, demoRole, demoDatabase).Scan(&role, &database)
	if err != nil {
		return "", fmt.Errorf("prepare database: %w", err)
	}
	var statements []string
	if !role {
		statements = append(statements, "create role "+demoRole+" login")
	}
	if database && !h.clean {
		statements = append(statements, "drop database "+demoDatabase+" with (force)")
		database = false
	}
	if !database {
		statements = append(statements, "create database "+demoDatabase+" owner "+demoRole)
	}
	// The default would show a visitor the schema named like the role, hubpg's own, and not the tables.
	statements = append(statements, "alter database "+demoDatabase+" set search_path = public, "+config.DefaultSchema)
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return "", fmt.Errorf("prepare database: %w", err)
		}
	}
	if err := h.markDirty(); err != nil {
		return "", err
	}
	return db.UserURL(demoRole, "", demoDatabase), nil
}
