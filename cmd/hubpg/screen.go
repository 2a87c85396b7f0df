package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"hubpg/internal/status"
)

// screen shows what the demo does on standard error: one line that is rewritten on a terminal, plain lines elsewhere.
// Log lines written through it do not tear the live line.
type screen struct {
	out  io.Writer
	live bool

	mu   sync.Mutex // guards below and the writing
	line string     // the live line that is shown now
}

// Pauses between two looks at the progress, and between two plain lines.
const (
	lookEvery = 200 * time.Millisecond
	sayEvery  = 2 * time.Second
)

func newScreen(out io.Writer) *screen { return &screen{out: out, live: isTerminal(out)} }

// say prints a line that stays.
func (s *screen) say(format string, args ...any) {
	_, _ = s.Write([]byte(fmt.Sprintf(format, args...) + "\n")) // there is nobody to tell
}

// Write prints text above the live line.
func (s *screen) Write(text []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.line == "" {
		return s.out.Write(text)
	}
	if _, err := fmt.Fprintf(s.out, "\r\x1b[K%s%s", text, s.line); err != nil {
		return 0, err
	}
	return len(text), nil
}

// show replaces the live line.
func (s *screen) show(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if line == s.line {
		return
	}
	s.line = line
	fmt.Fprintf(s.out, "\r\x1b[K%s", line)
}

// close ends the live line.
func (s *screen) close() {
	if s.live {
		s.show("")
	}
}

// follow shows the progress of the first backfill until it is complete or ctx ends.
func (s *screen) follow(ctx context.Context, app *App) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	last, said := "", time.Time{}
	for {
		report, err := app.Status(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, status.ErrNoSchema), err != nil:
			report = &status.Report{} // Postgres may be busy; the parts that need it say so in the log
		}
		line := progress(report)
		switch {
		case s.live:
			s.show(line)
		case line != last && (time.Since(said) >= sayEvery || report.Ready):
			s.say("%s", line)
			last, said = line, time.Now()
		}
		if report.Ready {
			s.close()
			for _, t := range report.Tables {
				if t.Error != "" {
					s.say("%s.%s: %s (%s)", t.Schema, t.Name, oneLine(t.Error), oneLine(t.Hint))
				}
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// progress puts a report into one line.
func progress(r *status.Report) string {
	if len(r.Tables) == 0 {
		return "reading the account's schema"
	}
	var done int
	var rows int64
	var current []string
	for _, t := range r.Tables {
		rows += t.Rows
		if t.Settled() {
			done++
			continue
		}
		if len(current) < 3 && t.Kind == "object" {
			text := fmt.Sprintf("%s %d", t.Name, t.Rows)
			if t.Expected != nil {
				text += fmt.Sprintf("/%d", *t.Expected)
			}
			current = append(current, text)
		}
	}
	line := fmt.Sprintf("%d of %d tables complete, %d rows", done, len(r.Tables), rows)
	if len(current) > 0 {
		line += ": " + strings.Join(current, ", ")
	}
	return line
}
