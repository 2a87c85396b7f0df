package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"hubpg/hubapi"
	"hubpg/internal/budget"
	"hubpg/internal/config"
	"hubpg/materialize"

	"github.com/spf13/cobra"
	"golang.org/x/time/rate"
)

func (p *Program) planCommand() *cobra.Command {
	var asJSON bool
	changes := int64(10_000)
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Tell what an account will cost before it is mirrored",
		Long: "Ask HubSpot how many records there are, and print how many calls and how long the backfill takes with the\n" +
			"settings given, and what every day costs after that, against the account's limits. Nothing is stored. Lines\n" +
			"marked ≤ are upper bounds: they hold when no two changes fall together. It makes about three calls per object type.",
		Example: "  hubpg plan --config hubpg.yaml\n  hubpg plan --changes 200000 --hubspot-share 0.5 --json",
		Args:    noArguments,
	}
	loader := config.NewLoader(cmd.Flags(), "hubspot.", "database.", "schema", "objects", "log.level")
	cmd.Flags().Int64Var(&changes, "changes", changes, "records that change in a day")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON instead of tables")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := loader.Load(p.LookupEnv)
		if err != nil {
			return err
		}
		if err := c.ValidateHubSpot(); err != nil {
			return err
		}
		if changes < 0 {
			return usageError{problem: "--changes is less than 0", command: cmd.CommandPath()}
		}
		plan, err := p.plan(cmd.Context(), c, changes)
		if err != nil {
			return err
		}
		if asJSON {
			return printJSON(p.Stdout, plan)
		}
		return plan.print(p.Stdout)
	}
	return cmd
}

// plan is what hubpg plan prints.
type plan struct {
	PortalID int64         `json:"portal_id"`
	Share    float64       `json:"share"`
	Limits   planLimits    `json:"limits"`
	Tables   []planTable   `json:"tables"`
	Skipped  []planSkipped `json:"skipped,omitempty"`
	Backfill planBackfill  `json:"backfill"`
	Lanes    []planLane    `json:"calls_per_day"`
	Day      int64         `json:"total_per_day"`
	Allowed  int64         `json:"allowed_per_day,omitempty"`
	UsedNow  int64         `json:"used_today_by_all_apps,omitempty"`
	Fits     bool          `json:"fits"`
}

type planLimits struct {
	Burst       int `json:"per_10s"`
	Association int `json:"associations_per_10s"`
	Search      int `json:"searches_per_second"`
	Daily       int `json:"daily,omitempty"`
}

type planTable struct {
	Table      string `json:"table"`
	Rows       int64  `json:"rows"`
	Properties int    `json:"properties"`
	Wide       bool   `json:"read_in_batches"`
}

type planSkipped struct {
	Table  string `json:"table"`
	Reason string `json:"reason"`
}

type planBackfill struct {
	ObjectCalls      int64   `json:"object_calls"`
	AssociationCalls int64   `json:"association_calls"`
	Seconds          float64 `json:"seconds"`
	Bound            string  `json:"bound_by"`
}

type planLane struct {
	Lane       string `json:"lane"`
	Family     string `json:"family"`
	Calls      int64  `json:"calls"`
	UpperBound bool   `json:"upper_bound,omitempty"`
}

// plan asks for counts and property names, slowly enough to disturb nobody, and estimates.
func (p *Program) plan(ctx context.Context, c *config.Config, changes int64) (*plan, error) {
	log, err := p.logger(c.Log)
	if err != nil {
		return nil, err
	}
	a := &App{cfg: c, log: log}
	defer a.Close()
	if c.HubSpot.Connects() {
		if err := c.ValidateDatabase(); err != nil {
			return nil, err
		}
		if a.pool, err = openPool(ctx, c); err != nil {
			return nil, err
		}
		if err := migrate(ctx, a.pool); err != nil {
			return nil, err
		}
	}
	tokens, err := a.tokens(ctx, 0)
	if err != nil {
		return nil, err
	}
	g := &gauge{calls: rate.NewLimiter(8, 8), searches: rate.NewLimiter(1, 1)}
	client, err := hubapi.New(c.HubSpot.URL, tokens, hubapi.WithLimiter(g), hubapi.WithLogger(log), hubapi.WithProductVersion(version()))
	if err != nil {
		return nil, fail(err, "leave hubspot.url out for HubSpot itself, or give the URL of a sandbox",
			"hubspot.url cannot be used: %s", cause(err))
	}
	s := &survey{client: client, only: c.ObjectNames(), rows: map[string]int64{}}
	account, err := client.GetAccount(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask HubSpot for the account: %w", err)
	}
	if err := s.run(ctx); err != nil {
		return nil, err
	}
	out := &plan{PortalID: account.PortalID, Share: c.HubSpot.Share, Skipped: s.skipped}
	if usage, err := client.GetDailyUsage(ctx); err == nil && usage.Limit > 0 {
		out.Limits.Daily, out.UsedNow = int(usage.Limit), usage.Used
	}
	g.limits(&out.Limits)
	s.load.ChangesPerDay, s.load.Fetchers = changes, materialize.DefaultFetchers
	out.fill(s, budget.Config{Share: c.HubSpot.Share})
	return out, nil
}

func (pl *plan) fill(s *survey, cfg budget.Config) {
	pace := materialize.DefaultPace()
	f := cfg.Forecast(s.load, budget.Limits(pl.Limits), budget.Rhythm{
		Busy: pace.Busy, Idle: pace.Idle, Trailing: pace.Trailing, Schema: pace.Schema, Archived: pace.Archived,
		IDs: pace.IDs, Pairs: pace.Pairs, Calculated: pace.Calculated, Counts: pace.Counts, Lookups: pace.Lookups,
	})
	pl.Tables = s.tables
	pl.Backfill = planBackfill{
		ObjectCalls: f.Backfill.ObjectCalls, AssociationCalls: f.Backfill.AssociationCalls,
		Seconds: f.Backfill.Takes.Seconds(), Bound: f.Backfill.Bound,
	}
	for _, l := range f.Lanes {
		pl.Lanes = append(pl.Lanes, planLane{l.Lane, l.Family, l.Calls, l.Most})
	}
	pl.Day, pl.Allowed, pl.Fits = f.Day, f.Allowed, f.Fits
}

// survey finds out what there is.
type survey struct {
	client  *hubapi.Client
	only    []string // the setting objects; empty: everything
	load    budget.Load
	tables  []planTable
	skipped []planSkipped
	rows    map[string]int64 // by type id
}

func (s *survey) run(ctx context.Context) error {
	enabled, err := s.client.ListEnablement(ctx)
	if err != nil && !unreadable(err) {
		return err
	}
	counts, err := s.client.GetRecordLimits(ctx)
	if err != nil && !unreadable(err) {
		return err
	}
	outlook := materialize.NewOutlook(enabled)
	var names []string
	for _, t := range outlook.Types {
		names = append(names, t.Name)
		if err := s.table(ctx, t.Name, t.TypeID, t.Pipelines, counts); err != nil {
			return err
		}
	}
	links := outlook.Links
	schemas, err := s.client.ListSchemas(ctx)
	if err != nil && !unreadable(err) {
		return err
	}
	for _, c := range schemas {
		names = append(names, c.Name)
		if err := s.table(ctx, c.Name, c.ObjectTypeID, true, counts); err != nil {
			return err
		}
		for _, a := range c.Associations {
			links = append(links, [2]string{a.FromObjectTypeID, a.ToObjectTypeID})
		}
	}
	for _, u := range materialize.UnknownObjects(s.only, names) {
		s.skipped = append(s.skipped, planSkipped{u.Name, u.Problem + " (" + u.Hint + ")"})
	}
	seen := map[[2]string]bool{}
	for _, link := range links {
		rows, ok := s.rows[link[0]]
		if _, other := s.rows[link[1]]; !ok || !other || seen[link] || seen[[2]string{link[1], link[0]}] {
			continue
		}
		seen[link] = true
		s.load.Pairs = append(s.load.Pairs, budget.PairLoad{Name: link[0] + ":" + link[1], Rows: rows})
	}
	return nil
}

func (s *survey) table(ctx context.Context, name, typeID string, pipelines bool, counts map[string]hubapi.RecordUsage) error {
	if len(s.only) > 0 && !slices.Contains(s.only, name) {
		return nil
	}
	path := name
	if pipelines && strings.HasPrefix(typeID, "2") {
		path = typeID
	}
	properties, err := s.client.ListProperties(ctx, path, false)
	if unreadable(err) {
		s.skipped = append(s.skipped, planSkipped{name, problem(err)})
		return nil
	}
	if err != nil {
		return err
	}
	names := make([]string, len(properties))
	for i := range properties {
		names[i] = properties[i].Name
	}
	usage, counted := counts[typeID]
	rows := usage.Usage
	if !counted {
		res, err := s.client.Search(ctx, path, hubapi.SearchRequest{Limit: 1})
		if unreadable(err) {
			s.skipped = append(s.skipped, planSkipped{name, problem(err)})
			return nil
		}
		if err != nil {
			return err
		}
		rows = int64(res.Total)
	}
	wide := !s.client.FitsURL(path, hubapi.NewProjection(names))
	s.rows[typeID] = rows
	s.tables = append(s.tables, planTable{name, rows, len(names), wide})
	s.load.Tables = append(s.load.Tables, budget.TableLoad{Name: name, Rows: rows, Wide: wide, Pipelines: pipelines})
	return nil
}

// unreadable says that HubSpot does not show something to this token; everything else goes on.
func unreadable(err error) bool {
	_, scope := errors.AsType[*hubapi.ScopeError](err)
	_, gone := errors.AsType[*hubapi.NotFoundError](err)
	_, invalid := errors.AsType[*hubapi.ValidationError](err)
	return scope || gone || invalid
}

// gauge paces a survey by itself, far below any limit, and notes the limits that HubSpot names.
type gauge struct {
	calls, searches *rate.Limiter

	mu           sync.Mutex // guards below
	burst, daily int
}

// Wait returns when the next call may go out.
func (g *gauge) Wait(ctx context.Context, family, _ string) error {
	if family == hubapi.FamilySearch {
		if err := g.searches.Wait(ctx); err != nil {
			return err
		}
	}
	return g.calls.Wait(ctx)
}

// Observe notes limits.
func (g *gauge) Observe(_ string, _ int, h http.Header, _ string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n, err := strconv.Atoi(h.Get("X-HubSpot-RateLimit-Max")); err == nil && n > 0 {
		g.burst = n
	}
	if n, err := strconv.Atoi(h.Get("X-HubSpot-RateLimit-Daily")); err == nil && n > 0 {
		g.daily = n
	}
}

// limits completes what is known; what HubSpot did not name is that of the smallest plan.
func (g *gauge) limits(l *planLimits) {
	g.mu.Lock()
	defer g.mu.Unlock()
	l.Burst, l.Search, l.Association = g.burst, 5, 100
	switch {
	case g.burst == 0:
		l.Burst = 100
	case g.burst >= 250:
		l.Association = 200
	case g.burst >= 190:
		l.Association = 150
	}
	if l.Daily == 0 {
		l.Daily = g.daily
	}
}

// print shows the plan to people.
func (pl *plan) print(w io.Writer) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "TABLE\tROWS\tPROPERTIES\tREAD BY\t")
	for _, t := range pl.Tables {
		by := "list"
		if t.Wide {
			by = "list, batch"
		}
		fmt.Fprintf(out, "%s\t%d\t%d\t%s\t\n", t.Table, t.Rows, t.Properties, by)
	}
	fmt.Fprintln(out, "\t\t\t\t\nLANE\tFAMILY\tCALLS A DAY\t\t")
	for _, l := range pl.Lanes {
		mark := ""
		if l.UpperBound {
			mark = "≤ "
		}
		fmt.Fprintf(out, "%s\t%s\t%s%d\t\t\n", l.Lane, l.Family, mark, l.Calls)
	}
	if err := out.Flush(); err != nil {
		return err
	}
	for _, s := range pl.Skipped {
		fmt.Fprintf(w, "not mirrored: %s: %s\n", s.Table, s.Reason)
	}
	b := pl.Backfill
	fmt.Fprintf(w, "\nBackfill: %d calls for records, %d for associations; about %s, bound by the %s limit.\n",
		b.ObjectCalls, b.AssociationCalls, roughly(b.Seconds), b.Bound)
	if pl.Limits.Daily == 0 {
		_, err := fmt.Fprintf(w, "Every day after: %d calls; the account names no daily limit.\n", pl.Day)
		return err
	}
	verdict := "fits"
	if !pl.Fits {
		verdict = "does not fit: sweeps and the backfill will come round less often; raise hubspot.share or buy the API add-on"
	}
	_, err := fmt.Fprintf(w, "Every day after: at most %d calls of %d (%.0f %% of the account's %d; all its apps have used %d today): %s.\n",
		pl.Day, pl.Allowed, 100*pl.Share, pl.Limits.Daily, pl.UsedNow, verdict)
	return err
}

// roughly is a duration as people say it.
func roughly(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d < 2*time.Minute:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return d.Round(time.Minute).String()
	}
	return fmt.Sprintf("%.1f days", d.Hours()/24)
}
