package materialize_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"hubpg/hubapi"
	"hubpg/internal/pgtest"
	"hubpg/materialize"
)

// childDatabase and childHubSpot, when set, make the test binary a materializer that runs until it is killed.
const (
	childDatabase = "HUBPG_TEST_DATABASE"
	childHubSpot  = "HUBPG_TEST_HUBSPOT"
	childFast     = "HUBPG_TEST_FAST"  // with all sweeps
	childBench    = "HUBPG_TEST_BENCH" // configured as a benchmark wants it
	childIDs      = "HUBPG_TEST_IDS"   // of a benchmark: with the sweep of ids, one pass after the other
)

func TestMain(m *testing.M) {
	if os.Getenv(childDatabase) != "" {
		if err := child(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	sideBySide()
	goleak.VerifyTestMain(pgtest.Wrap(m))
}

// sideBySide has more tests at a time than there are processors, unless the command says how many: most of them wait most of the
// time, for pauses that are part of what they hold, and go test ends a package after ten minutes.
func sideBySide() {
	const atOnce = "6"
	flag.Parse()
	said := false
	flag.Visit(func(f *flag.Flag) { said = said || f.Name == "test.parallel" })
	if !said && runtime.GOMAXPROCS(0) < 6 {
		_ = flag.Set("test.parallel", atOnce) // a flag of the testing package's own
	}
}

func childLogger() *slog.Logger {
	if os.Getenv("HUBPG_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: logLevel()})).With("child", os.Getpid())
}

func child() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if accounts := os.Getenv(childFleet); accounts != "" {
		return fleetChild(ctx, []byte(accounts))
	}
	pool, err := pgxpool.New(ctx, os.Getenv(childDatabase))
	if err != nil {
		return err
	}
	defer pool.Close()
	client, err := hubapi.New(os.Getenv(childHubSpot), hubapi.StaticToken("sandbox"))
	if err != nil {
		return err
	}
	pace := slowSweeps() // so that what a kill loses stays lost
	pace.Archived = time.Second
	if os.Getenv(childFast) != "" {
		pace = fastPace()
	}
	cfg := materialize.Config{
		Pool: pool, Client: client, Pace: pace, Fetchers: 4, BackfillEvents: true, Logger: childLogger(),
		Objects: []string{"contacts", "companies", "deals"},
	}
	if os.Getenv(childBench) != "" {
		cfg.Pace, cfg.Fetchers, cfg.BackfillEvents, cfg.Objects = slowSweeps(), 0, false, []string{"contacts"}
		if os.Getenv(childIDs) != "" {
			cfg.Pace.IDs = time.Millisecond
		}
	}
	if token := os.Getenv(childJournal); token != "" {
		if cfg.Journal, err = hubapi.New(os.Getenv(childHubSpot), hubapi.StaticToken(token)); err != nil {
			return err
		}
	}
	e, err := materialize.New(cfg)
	if err != nil {
		return err
	}
	return e.Run(ctx)
}
