package proxy

import (
	"context"
	"errors"
	"fmt"

	"hubpg/internal/pgwire"
)

// failure is what a takeover tells the client instead of performing a statement.
func failure(code, message, detail, hint string) *pgwire.Error {
	return &pgwire.Error{Severity: "ERROR", Code: code, Message: message, Detail: detail, Hint: hint}
}

// errorOf words why a Writer did not do what was asked.
func errorOf(ctx context.Context, err error) *pgwire.Error {
	var refused *WriteError
	switch {
	case errors.As(err, &refused):
		e := failure(refused.Code, refused.Message, refused.Detail, refused.Hint)
		e.Schema, e.Table, e.Column = refused.Schema, refused.Table, refused.Column
		if len(e.Code) != 5 {
			e.Code = "XX000"
		}
		return e
	case errors.Is(context.Cause(ctx), errCanceled):
		return failure("57014", "canceling statement due to user request", "",
			"HubSpot may have accepted some of its rows; the tables follow HubSpot.")
	case errors.Is(context.Cause(ctx), errStatementTimeout):
		return failure("57014", "canceling statement due to statement timeout", "",
			"HubSpot may have accepted some of its rows; the tables follow HubSpot.")
	}
	return failure("58000", "hubpg could not send the statement to HubSpot", "",
		"The log of hubpg has the cause. If HubSpot took any of it, the tables follow HubSpot.")
}

var (
	errCanceled         = errors.New("the client has asked to cancel")
	errStatementTimeout = errors.New("statement timeout")
)

// errOutOfStep ends a session in which Postgres has not done what every takeover counts on.
var errOutOfStep = errors.New("lost step with Postgres")

func protocolError(typ byte) error { return fmt.Errorf("%w: unexpected message %q", errOutOfStep, typ) }
