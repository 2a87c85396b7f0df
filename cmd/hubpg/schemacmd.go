package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"hubpg/internal/catalog"
	"hubpg/internal/config"
	"hubpg/internal/mirror"
	"hubpg/materialize"
)

// schemaCommand is hubpg schema: which property is which column, and what the user wants to be different.
func (p *Program) schemaCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "Show and change which properties are which columns",
		Long: "Names are given once and locked: a rename in HubSpot never breaks a query. What is changed here takes effect\n" +
			"at once and is kept. Readers are held up for half a second at most; a change that cannot get through is\n" +
			"tried again for half a minute.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.schemaList())
	for _, v := range []schemaVerb{
		{
			use: "rename TABLE COLUMN NAME", short: "Give a column another name", arguments: 3,
			long: "Give a column another name, for good. Views keep working.",
			do: func(ctx context.Context, m *mirror.Mapper, db mirror.DB, a []string) error {
				return m.RenameColumn(ctx, db, a[0], a[1], a[2])
			},
		},
		{
			use: "exclude TABLE COLUMN", short: "Drop a column and stop reading its property", arguments: 2,
			long: "Drop a column with its values and stop asking HubSpot for the property. A column that views use is not\n" +
				"dropped. Postgres counts dropped columns: of 1,600 that a table may ever have, each exclusion that is taken\n" +
				"back costs one.",
			do: func(ctx context.Context, m *mirror.Mapper, db mirror.DB, a []string) error {
				return m.Exclude(ctx, db, a[0], a[1])
			},
		},
		{
			use: "include TABLE COLUMN", short: "Take an exclusion back", arguments: 2,
			long: "Give an excluded property its column again. The values of old rows are read at once, on a lane of their own.",
			do: func(ctx context.Context, m *mirror.Mapper, db mirror.DB, a []string) error {
				return m.Include(ctx, db, a[0], a[1])
			},
			fills: true,
		},
		{
			use: "pin TABLE COLUMN", short: "Keep a property out of _overflow", arguments: 2,
			long: "Give a property a column of its own, for good. Without it, the least-used columns of a table whose records\n" +
				"outgrow a row move to _overflow.",
			do: func(ctx context.Context, m *mirror.Mapper, db mirror.DB, a []string) error {
				return m.Pin(ctx, db, a[0], a[1], true)
			},
		},
		{
			use: "unpin TABLE COLUMN", short: "Let a column be moved to _overflow again", arguments: 2,
			do: func(ctx context.Context, m *mirror.Mapper, db mirror.DB, a []string) error {
				return m.Pin(ctx, db, a[0], a[1], false)
			},
		},
	} {
		cmd.AddCommand(p.schemaChange(v))
	}
	return cmd
}

// schemaVerb is a change of one column.
type schemaVerb struct {
	use, short, long string
	arguments        int
	do               func(ctx context.Context, m *mirror.Mapper, db mirror.DB, args []string) error
	fills            bool // the first argument's table has columns without values afterwards
}

// exactArguments wants as many arguments as the command's usage names.
func exactArguments(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		return usageError{problem: fmt.Sprintf("want %d arguments: %s", n, cmd.Use), command: cmd.CommandPath()}
	}
}

func (p *Program) schemaChange(v schemaVerb) *cobra.Command {
	cmd := &cobra.Command{Use: v.use, Short: v.short, Long: v.long, Args: exactArguments(v.arguments)}
	loader := config.NewLoader(cmd.Flags(), "database.", "schema")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return p.withCatalog(cmd.Context(), loader, func(ctx context.Context, conn *pgx.Conn, c *config.Config, portal int64) error {
			m := mirror.NewMapper(mirror.MapperConfig{PortalID: portal, Schema: c.Schema})
			err := v.do(ctx, m, conn, args)
			if e, ok := errors.AsType[*mirror.ShapeError](err); ok {
				hint := e.Hint
				e.Hint = ""
				return fail(err, hint, "%s", e.Error())
			}
			if err != nil || !v.fills {
				return err
			}
			return materialize.StartFill(ctx, conn, portal, args[0])
		})
	}
	return cmd
}

// withCatalog connects to the database and finds the account of the schema.
func (p *Program) withCatalog(ctx context.Context, loader *config.Loader,
	work func(ctx context.Context, conn *pgx.Conn, c *config.Config, portal int64) error,
) error {
	c, err := loader.Load(p.LookupEnv)
	if err != nil {
		return err
	}
	if err := c.ValidateDatabase(); err != nil {
		return err
	}
	if _, err := readStatus(ctx, c.Database.URL.Reveal()); err != nil { // says so when hubpg has never been there
		return err
	}
	conn, err := pgx.Connect(ctx, c.Database.URL.Reveal())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // all is committed
	var portal int64
	err = conn.QueryRow(ctx, "select portal_id from hubpg.accounts where schema_name = $1", c.Schema).Scan(&portal)
	if errors.Is(err, pgx.ErrNoRows) {
		return fail(nil, "start hubpg serve once, or name another schema with --schema", "schema %s holds no HubSpot account", c.Schema)
	}
	if err != nil {
		return err
	}
	return work(ctx, conn, c, portal)
}

func (p *Program) schemaList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list [TABLE]",
		Short:   "List the columns of all tables or of one",
		Example: "  hubpg schema list contacts\n  hubpg schema list --json | jq '.[] | select(.placement == \"overflow\")'",
		Args:    cobra.MaximumNArgs(1),
	}
	loader := config.NewLoader(cmd.Flags(), "database.", "schema")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON instead of a table")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return p.withCatalog(cmd.Context(), loader, func(ctx context.Context, conn *pgx.Conn, _ *config.Config, portal int64) error {
			cat, err := mirror.Load(ctx, conn, portal)
			if err != nil {
				return err
			}
			if len(args) > 0 && cat.Named(args[0]) == nil {
				return fail(nil, "hubpg status lists the tables", "there is no table of records named %s", args[0])
			}
			var list []schemaColumn
			for _, t := range cat.Tables {
				if len(args) == 0 || t.Name == args[0] {
					list = append(list, schemaColumns(t)...)
				}
			}
			if asJSON {
				return printJSON(p.Stdout, list)
			}
			return printColumns(p.Stdout, list)
		})
	}
	return cmd
}

// schemaColumn is a line of hubpg schema list, with names that stay.
type schemaColumn struct {
	Table     string `json:"table"`
	Column    string `json:"column"`
	Property  string `json:"property"`
	Type      string `json:"type"`
	Placement string `json:"placement"` // column, overflow or excluded
	Pinned    bool   `json:"pinned,omitempty"`
	Archived  bool   `json:"archived,omitempty"` // in HubSpot
	Filling   bool   `json:"filling,omitempty"`  // old rows do not have their values yet
	ReadOnly  bool   `json:"read_only,omitempty"`
	Label     string `json:"label,omitempty"`
}

func schemaColumns(t *catalog.Table) []schemaColumn {
	list := make([]schemaColumn, 0, len(t.Columns)+len(t.Excluded))
	for i, c := range slices.Concat(t.Columns, t.Excluded) {
		line := schemaColumn{
			Table: t.Name, Column: c.Name, Property: c.Property, Type: c.Kind.SQL(), Placement: "column", Pinned: c.Pinned,
			Archived: c.Archived, Filling: !c.Filled && !c.Archived, ReadOnly: c.ReadOnly, Label: c.Label,
		}
		switch {
		case i >= len(t.Columns):
			line.Placement, line.Filling = "excluded", false
		case c.Overflow:
			line.Placement = "overflow"
		}
		list = append(list, line)
	}
	return list
}

func printColumns(w io.Writer, list []schemaColumn) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "TABLE\tCOLUMN\tTYPE\tPROPERTY\tPLACEMENT\tNOTES")
	for _, c := range list {
		property := c.Property
		if property == c.Column {
			property = "same"
		}
		notes := ""
		for _, n := range []struct {
			is   bool
			text string
		}{{c.Pinned, "pinned"}, {c.Archived, "archived in HubSpot"}, {c.Filling, "being filled"}, {c.ReadOnly, "read-only"}} {
			if n.is {
				if notes != "" {
					notes += ", "
				}
				notes += n.text
			}
		}
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\t%s\n", c.Table, c.Column, c.Type, property, c.Placement, notes)
	}
	return out.Flush()
}
