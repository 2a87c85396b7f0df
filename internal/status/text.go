package status

import (
	"fmt"
	"html/template"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// WriteTable prints the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "TABLE\tPHASE\tROWS\tPROGRESS\tLAG\tETA\tCALLS\tPROBLEM")
	for _, t := range r.Tables {
		fmt.Fprintf(out, "%s.%s\t%s\t%d\t%s\t%s\t%s\t%d\t%s\n",
			t.Schema, t.Name, t.Phase, t.Rows, percent(t.Progress), span(t.Lag), span(t.ETA), t.spent(), oneLine(t.Error))
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if err := r.writeFeeds(w); err != nil {
		return err
	}
	for _, t := range r.Tables {
		if t.Sending != nil && t.Sent != nil {
			if _, err := fmt.Fprintf(w, "%s.%s: HubSpot has taken %d of %d rows that statements are changing\n", t.Schema, t.Name, *t.Sent, *t.Sending); err != nil {
				return err
			}
		}
	}
	if err := r.writeHints(w); err != nil {
		return err
	}
	if len(r.Lanes) > 0 {
		lanes := make([]string, len(r.Lanes))
		for i, l := range r.Lanes {
			lanes[i] = fmt.Sprintf("%s %d (%d today)", l.Name, l.Calls, l.Today)
		}
		if _, err := fmt.Fprintf(w, "calls to HubSpot by lane: %s\n", strings.Join(lanes, ", ")); err != nil {
			return err
		}
	}
	verdict := "ready"
	if !r.Ready {
		verdict = "not ready: " + r.Reason
	}
	_, err := fmt.Fprintf(w, "%s; newest change %d\n", verdict, r.Newest)
	return err
}

// namedTables is how many tables are named that have one remedy.
const namedTables = 3

// writeHints prints each remedy once, with the tables that it helps.
func (r *Report) writeHints(w io.Writer) error {
	var hints []string
	tables := map[string][]string{}
	for _, t := range r.Tables {
		if t.Hint == "" {
			continue
		}
		if tables[t.Hint] == nil {
			hints = append(hints, t.Hint)
		}
		tables[t.Hint] = append(tables[t.Hint], t.Schema+"."+t.Name)
	}
	for _, hint := range hints {
		names := tables[hint]
		more := ""
		if n := len(names) - namedTables; n > 0 {
			names, more = names[:namedTables], fmt.Sprintf(" and %d more", n)
		}
		if _, err := fmt.Fprintf(w, "%s%s: %s\n", strings.Join(names, ", "), more, hint); err != nil {
			return err
		}
	}
	return nil
}

// functions are what the page calls.
var functions = template.FuncMap{
	"percent": percent,
	"span":    span,
	"count":   func(n int64) string { return grouped(n) },
}

// percent renders a share, "" when it is not known.
func percent(share *float64) string {
	if share == nil {
		return ""
	}
	return strconv.Itoa(int(*share*100)) + "%"
}

// span renders seconds, "" when they are not known.
func span(seconds *float64) string {
	if seconds == nil {
		return ""
	}
	d := time.Duration(*seconds * float64(time.Second))
	switch {
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	default:
		return d.Round(time.Second).String()
	}
}

// grouped renders a number with spaces between thousands.
func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 && digits[i-1] != '-' {
			b.WriteByte(' ')
		}
		b.WriteRune(d)
	}
	return b.String()
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
