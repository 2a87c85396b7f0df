package writeback

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"hubpg/hubapi"
	"hubpg/internal/catalog"
	"hubpg/internal/mirror"
)

const (
	// parallel is how many batches of one statement are under way at once.
	parallel = 4
	// readBackRows is the largest statement whose records are read whole after the write: as many as mappers put into one. The
	// values that HubSpot gives the records of a larger one come with the next poll.
	readBackRows = 1000
	// finishWithin bounds what has to be finished although the client has gone.
	finishWithin = 30 * time.Second
)

// Config configures a [Writer].
type Config struct {
	Pool     *pgxpool.Pool // as the owner of the tables
	Client   *hubapi.Client
	PortalID int64
	Notify   mirror.Notify
	Logger   *slog.Logger
	Every    time.Duration // between looks for unfinished writes; 0 means 30 s
	Landing  time.Duration // how long HubSpot may take up a request whose connection has ended; 0 means 20 s
	Keep     time.Duration // how long finished writes stay in hubpg.writes; 0 means 30 days
}

// Writer carries out the writes of one account.
type Writer struct {
	pool    *pgxpool.Pool
	reserve *reserve
	turns   *reserve // connections for turn alone
	client  *hubapi.Client
	portal  int64
	applier *mirror.Applier
	storing chan struct{} // capacity for how many transactions may wait for tables at once
	logger  *slog.Logger
	every   time.Duration
	landing time.Duration
	keep    time.Duration
	wake    chan struct{} // a wake-up for Run; may coalesce

	mu      sync.Mutex // guards below
	key     []byte
	cat     *mirror.Catalog
	catSum  string // versions of cat's tables
	defs    map[string]*definition
	edges   map[string]*edgeTypes
	active  map[int64]bool // writes that this process is carrying out
	looked  map[int64]bool // ambiguous writes that have been looked up and stay open for what may land later
	denied  map[string]denial
	doubted map[string]time.Time // when definitions were last forgotten because of a refusal
}

// New returns a Writer. Its calls are of the class Writes.
func New(c Config) (*Writer, error) {
	if c.Pool == nil || c.Client == nil || c.PortalID == 0 {
		return nil, errors.New("create writer: pool, client and portal are needed")
	}
	w := &Writer{
		pool: c.Pool, reserve: newReserve(c.Pool), turns: newReserve(c.Pool), client: c.Client.As(hubapi.Writes), portal: c.PortalID,
		applier: mirror.NewApplier(mirror.Config{PortalID: c.PortalID, Notify: c.Notify}),
		storing: make(chan struct{}, max(1, c.Pool.Config().MaxConns/2)),
		logger:  c.Logger, every: c.Every, landing: c.Landing, keep: c.Keep,
		wake: make(chan struct{}, 1),
		defs: map[string]*definition{}, edges: map[string]*edgeTypes{}, active: map[int64]bool{}, looked: map[int64]bool{}, denied: map[string]denial{},
		doubted: map[string]time.Time{},
	}
	if w.logger == nil {
		w.logger = slog.New(slog.DiscardHandler)
	}
	if w.every <= 0 {
		w.every = 30 * time.Second
	}
	if w.landing <= 0 {
		w.landing = 20 * time.Second
	}
	if w.keep <= 0 {
		w.keep = 30 * 24 * time.Hour
	}
	return w, nil
}

// Close ends the connections that the Writer keeps for itself. Nothing may be under way.
func (w *Writer) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), finishWithin)
	defer cancel()
	w.reserve.close(ctx)
	w.turns.close(ctx)
}

// catalogSum changes with the columns of any table of the account $1.
const catalogSum = `
select coalesce(sum(catalog_version), 0) || ':' || count(*)
from hubpg.objects
where portal_id = $1`

// known returns the catalog as it was last read, and its version; nil if it has to be read.
func (w *Writer) known() (*mirror.Catalog, string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.catSum == "" {
		return nil, ""
	}
	return w.cat, w.catSum
}

// catalog returns the account's tables, read again when their columns have changed.
func (w *Writer) catalog(ctx context.Context) (*mirror.Catalog, error) {
	cat, _, err := w.present(ctx)
	return cat, err
}

// present is catalog with the version.
func (w *Writer) present(ctx context.Context) (cat *mirror.Catalog, sum string, err error) {
	isKnown := false
	err = w.reserve.with(ctx, func(conn *pgx.Conn) error {
		if err := conn.QueryRow(ctx, catalogSum, w.portal).Scan(&sum); err != nil {
			return fmt.Errorf("look at catalog: %w", err)
		}
		var last string
		if cat, last = w.known(); cat != nil && last == sum {
			isKnown = true
			return nil
		}
		var err error
		cat, err = mirror.Load(ctx, conn, w.portal)
		return err
	})
	if err != nil || isKnown {
		return cat, sum, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cat, w.catSum = cat, sum
	w.defs = map[string]*definition{}
	return cat, sum, nil
}

func (w *Writer) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.catSum = ""
}

func pairNamed(c *mirror.Catalog, name string) *catalog.Pair {
	for _, p := range c.Pairs {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// kick makes Run look for unfinished writes now.
func (w *Writer) kick() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *Writer) setActive(id int64, on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if on {
		w.active[id] = true
	} else {
		delete(w.active, id)
	}
}

func (w *Writer) isActive(id int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.active[id]
}

// hasLooked says that an ambiguous write has been looked up once by this process.
func (w *Writer) hasLooked(id int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.looked[id]
}

func (w *Writer) setLooked(id int64, on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if on {
		w.looked[id] = true
	} else {
		delete(w.looked, id)
	}
}

// forgetLooks drops what it knows about writes that are not open any more: another process has ended them.
func (w *Writer) forgetLooks(open []int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.DeleteFunc(w.looked, func(id int64, _ bool) bool { return !slices.Contains(open, id) })
}
