package proxy_test

import (
	"context"
	"log"
	"os"
	"os/signal"

	"hubpg/proxy"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Serve a database to its clients, with LISTEN on the change log that it holds, until interrupted.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	const database = "postgres://hubpg@localhost/hubpg"
	pool, err := pgxpool.New(ctx, database)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	server, err := proxy.New(proxy.Config{Upstream: database, Changes: pool})
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("serving Postgres clients on %s", server.Addr())
	if err := server.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
