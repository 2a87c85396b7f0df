package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"hubpg/internal/config"
	"hubpg/internal/status"
)

// errDiffers says that a verb has done its work and the answer is no; the report is already printed.
var errDiffers = errors.New("differences found")

func (p *Program) statusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how complete and how fresh each table is",
		Long:  "Show rows, progress, lag, ETA and problems of each table, as stored in hubpg.status.",
		Example: "  hubpg status --database-url postgres://hubpg@db/crm\n" +
			"  hubpg status --json | jq '.tables[] | select(.error)'",
		Args: noArguments,
	}
	loader := config.NewLoader(cmd.Flags(), "database.")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON instead of a table")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := loader.Load(p.LookupEnv)
		if err != nil {
			return err
		}
		if err := c.ValidateDatabase(); err != nil {
			return err
		}
		report, err := readStatus(cmd.Context(), c.Database.URL.Reveal())
		if err != nil {
			return err
		}
		if asJSON {
			return printJSON(p.Stdout, report)
		}
		return report.WriteTable(p.Stdout)
	}
	return cmd
}

func readStatus(ctx context.Context, url string) (*status.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // the report is read
	return status.Read(ctx, conn)
}

func printJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// isTerminal reports whether a stream is shown to a person.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
