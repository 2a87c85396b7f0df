package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"hubpg/hubapi"
	"hubpg/internal/config"
	"hubpg/materialize"
)

// shownDifferences is how many differing rows per table the text report shows.
const shownDifferences = 5

func (p *Program) verifyCommand() *cobra.Command {
	var asJSON bool
	var tables []string
	var repair bool
	var sample int
	cmd := &cobra.Command{
		Use:   "verify [TABLE...]",
		Short: "Compare every row with HubSpot",
		Long: "Read every record of the account and compare counts and values with the tables. What HubSpot changed too\n" +
			"lately to be in the tables is no difference: where HubSpot does not say when it did, the running serve is asked\n" +
			"to look, and only what differs then counts, besides what serve has healed meanwhile though HubSpot had not changed it:\n" +
			"what a lookup table's last read says, or the change log of an association since the table was first filled,\n" +
			"proves that. An association without such a word in the log, or a calculated value, that is healed meanwhile is\n" +
			"told as such and does not count. Exit status 1 if anything differed. The calls it makes come out of\n" +
			"the same quota as those of serve. With --repair, rows that differ are read again and stored.",
		Example: "  hubpg verify --config hubpg.yaml\n  hubpg verify contacts deals --json\n  hubpg verify contacts --sample 1000 --repair",
	}
	loader := config.NewLoader(cmd.Flags(), "hubspot.", "database.", "schema", "log.level")
	cmd.Flags().StringArrayVar(&tables, "table", nil, "compare this table only (may be given again)")
	cmd.Flags().BoolVar(&repair, "repair", false, "store what HubSpot says where it differs")
	cmd.Flags().IntVar(&sample, "sample", 0, "compare the values of so many records of each table, and all ids (0: all values)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON instead of a table")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if sample < 0 {
			return usageError{problem: "--sample wants a number of records", command: cmd.CommandPath()}
		}
		c, err := loader.Load(p.LookupEnv)
		if err != nil {
			return err
		}
		if err := c.ValidateDatabase(); err != nil {
			return err
		}
		if err := c.ValidateHubSpot(); err != nil {
			return err
		}
		report, err := p.verify(cmd.Context(), c, materialize.VerifyConfig{
			Tables: append(tables, args...), Repair: repair, Sample: sample, RowNotify: c.Notify == "rows",
		})
		if err != nil {
			return err
		}
		if asJSON {
			err = printJSON(p.Stdout, reportJSON(report))
		} else {
			err = printReport(p.Stdout, report)
		}
		if err == nil && !report.Equal() {
			err = errDiffers
		}
		return err
	}
	return cmd
}

// verify compares with a client of its own, in the least urgent class of the shared quota.
func (p *Program) verify(ctx context.Context, c *config.Config, cfg materialize.VerifyConfig) (report *materialize.Report, err error) {
	err = p.compare(ctx, c, cfg, func(ctx context.Context, cfg materialize.VerifyConfig) (err error) {
		report, err = materialize.Verify(ctx, cfg)
		return err
	})
	return report, err
}

// compare runs work that reads the whole account: with a client of its own, and with progress on the screen.
func (p *Program) compare(ctx context.Context, c *config.Config, cfg materialize.VerifyConfig,
	work func(context.Context, materialize.VerifyConfig) error,
) error {
	log, err := p.logger(c.Log)
	if err != nil {
		return err
	}
	if _, err := readStatus(ctx, c.Database.URL.Reveal()); err != nil { // says so when there is nothing to compare
		return err
	}
	a := &App{cfg: c, log: log}
	defer a.Close()
	if a.pool, err = openPool(ctx, c); err != nil {
		return err
	}
	client, account, err := a.client(ctx)
	if err != nil {
		return err
	}
	scr := newScreen(p.Stderr)
	defer scr.close()
	around, stop := context.WithCancel(ctx)
	g, around := errgroup.WithContext(around)
	g.Go(func() error { return a.budget.Run(around) })
	g.Go(func() (err error) {
		defer stop()
		cfg.Pool, cfg.Client, cfg.PortalID = a.pool, client.As(hubapi.Sweeps), account.PortalID
		cfg.Progress = func(table string, rows int64) {
			if scr.live {
				scr.show(fmt.Sprintf("comparing %s, %d rows", table, rows))
			}
		}
		return work(around, cfg)
	})
	return g.Wait()
}

// printReport shows the outcome for people: a line per table that differs, some of its rows, and a verdict.
func printReport(w io.Writer, r *materialize.Report) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	var rows, bad int64
	for i := range r.Tables {
		t := &r.Tables[i]
		rows += t.StoredRows
		if t.Err == nil && t.Missing+t.Extra+t.Different == 0 {
			continue
		}
		if bad == 0 {
			fmt.Fprintln(out, "TABLE\tHUBSPOT\tSTORED\tMISSING\tEXTRA\tDIFFERENT\tPROBLEM")
		}
		bad++
		fmt.Fprintf(out, "%s\t%d\t%d\t%d\t%d\t%d\t%s\n",
			t.Table, t.HubSpotRows, t.StoredRows, t.Missing, t.Extra, t.Different, problem(t.Err))
	}
	if err := out.Flush(); err != nil {
		return err
	}
	for i := range r.Tables {
		if err := printDifferences(w, &r.Tables[i]); err != nil {
			return err
		}
	}
	verdict := "equal"
	if !r.Equal() {
		verdict = fmt.Sprintf("%d tables differ", bad)
	}
	var repaired, late, pending int64
	for i := range r.Tables {
		t := &r.Tables[i]
		repaired, late, pending = repaired+t.Repaired, late+t.Late, pending+t.Pending
	}
	if repaired > 0 {
		verdict += fmt.Sprintf(", %d rows repaired", repaired)
	}
	if _, err := fmt.Fprintf(w, "%s: %d tables, %d rows compared in %s\n",
		verdict, len(r.Tables), rows, r.Ended.Sub(r.Began).Round(100*time.Millisecond)); err != nil || late+pending == 0 {
		return err
	}
	_, err := fmt.Fprintf(w, "no differences: %d rows that came, or were healed, meanwhile, %d that HubSpot has changed too lately\n", late, pending)
	return err
}

func printDifferences(w io.Writer, t *materialize.TableReport) error {
	for i, d := range t.Differences {
		if i == shownDifferences {
			_, err := fmt.Fprintf(w, "  %s: more rows differ; --json shows up to 100 of each table\n", t.Table)
			return err
		}
		line := fmt.Sprintf("  %s %d: %s", t.Table, d.ID, d.Kind)
		if d.Column != "" {
			line += fmt.Sprintf(" of %s: HubSpot %s, stored %s", d.Column, d.HubSpot, d.Stored)
		}
		if d.Calculated {
			line += " (calculated by HubSpot)"
		}
		if d.Healed {
			line += " (healed while looking; HubSpot had not changed it)"
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

func problem(err error) string {
	if err == nil {
		return ""
	}
	f := explain(err)
	if f.hint == "" {
		return oneLine(f.message)
	}
	return oneLine(f.message) + " (" + oneLine(f.hint) + ")"
}

// reportJSON is the report with names that stay.
func reportJSON(r *materialize.Report) any {
	type difference struct {
		Kind       string `json:"kind"`
		ID         int64  `json:"id"`
		Column     string `json:"column,omitempty"`
		HubSpot    string `json:"hubspot,omitempty"`
		Stored     string `json:"stored,omitempty"`
		Calculated bool   `json:"calculated,omitempty"`
		Healed     bool   `json:"healed,omitempty"`
	}
	type table struct {
		Table       string       `json:"table"`
		HubSpotRows int64        `json:"hubspot_rows"`
		StoredRows  int64        `json:"stored_rows"`
		Missing     int64        `json:"missing"`
		Extra       int64        `json:"extra"`
		Different   int64        `json:"different"`
		Pending     int64        `json:"pending"`
		Late        int64        `json:"late"`
		Repaired    int64        `json:"repaired,omitempty"`
		Problem     string       `json:"problem,omitempty"`
		Differences []difference `json:"differences,omitempty"`
	}
	tables := make([]table, 0, len(r.Tables))
	for i := range r.Tables {
		t := &r.Tables[i]
		out := table{
			Table: t.Table, HubSpotRows: t.HubSpotRows, StoredRows: t.StoredRows, Missing: t.Missing, Extra: t.Extra,
			Different: t.Different, Pending: t.Pending, Late: t.Late, Repaired: t.Repaired, Problem: problem(t.Err),
		}
		for _, d := range t.Differences {
			out.Differences = append(out.Differences, difference{string(d.Kind), d.ID, d.Column, d.HubSpot, d.Stored, d.Calculated, d.Healed})
		}
		tables = append(tables, out)
	}
	return struct {
		Equal  bool      `json:"equal"`
		Began  time.Time `json:"began"`
		Ended  time.Time `json:"ended"`
		Tables []table   `json:"tables"`
	}{r.Equal(), r.Began, r.Ended, tables}
}
