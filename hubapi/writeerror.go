package hubapi

import (
	"errors"
	"net/http"
	"strconv"
)

// rowRefusal says that a refusal may be due to single rows of a batch.
func rowRefusal(err error) bool {
	if _, ok := errors.AsType[*AmbiguousError](err); ok {
		return false
	}
	for _, is := range []func(error) bool{
		isType[*ValidationError], isType[*ConflictError], isType[*NotFoundError], isType[*TooLargeError],
	} {
		if is(err) {
			return true
		}
	}
	return false
}

func isType[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// rowError returns an entry of a batch's errors in the type of what the caller must do about the row.
func (e *errorEntry) rowError(r *request) error {
	api := &APIError{
		Status: e.httpStatus(), Category: clip(e.Category, 100), SubCategory: clip(text(e.SubCategory), 200),
		Message: clip(e.Message, maxMessage), CorrelationID: r.correlation, Method: r.method, Path: r.path,
		Context: e.Context.lists(),
	}
	if api.Category == "" {
		api.Category = clip(e.Code, 100)
	}
	for i := range e.Errors {
		api.Details = append(api.Details, e.Errors[i].detail())
	}
	if len(api.Details) == 0 {
		api.Details = detailsInMessage(e.Message)
	}
	if len(api.Details) == 0 && e.Code != "" {
		api.Details = []Detail{e.detail()}
	}
	api.Scopes = api.Context["requiredGranularScopes"]
	return refusal(api)
}

// httpStatus is the status that the row would have had as a call of its own.
func (e *errorEntry) httpStatus() int {
	switch e.Category {
	case "CONFLICT", "OBJECT_ALREADY_EXISTS":
		return http.StatusConflict
	case "OBJECT_NOT_FOUND", "NOT_FOUND":
		return http.StatusNotFound
	case "MISSING_SCOPES", "BANNED":
		return http.StatusForbidden
	}
	switch text(e.SubCategory) {
	case "crm.associations.FROM_OBJECT_NOT_FOUND", "crm.associations.TO_OBJECT_NOT_FOUND":
		return http.StatusNotFound
	}
	if n, err := strconv.Atoi(e.Code); err == nil && n >= 400 && n < 500 {
		return n
	}
	return http.StatusBadRequest
}
