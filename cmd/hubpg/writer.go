package main

import (
	"context"
	"errors"

	"hubpg/internal/writeback"
	"hubpg/proxy"
)

// writer is writeback as the proxy wants it. The two packages do not know each other.
type writer struct{ *writeback.Writer }

// Write implements [proxy.Writer].
func (w writer) Write(ctx context.Context, r proxy.WriteRequest) (proxy.WriteResult, error) {
	in := writeback.Request{
		Permit: r.Permit, PID: r.PID, Role: r.Role, Database: r.Database, Application: r.Application, Client: r.Client,
		SQL: r.SQL, DryRun: r.Mode == proxy.WriteDryRun, SkipBadRows: r.SkipBadRows,
		Rows: make([]writeback.Row, len(r.Rows)),
	}
	for i, row := range r.Rows {
		in.Rows[i] = writeback.Row(row)
	}
	result, err := w.Writer.Write(ctx, in)
	out := proxy.WriteResult{ID: result.ID, Answers: result.Answers}
	for _, n := range result.Notices {
		out.Notices = append(out.Notices, proxy.WriteNotice(n))
	}
	if refused, ok := errors.AsType[*writeback.Error](err); ok {
		e := proxy.WriteError(*refused)
		return out, &e
	}
	return out, err
}
