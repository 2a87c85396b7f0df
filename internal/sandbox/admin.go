package sandbox

import (
	"context"
	"errors"
	"net/http"
	"time"
)

var errPending = errors.New("sandbox: under construction")

type Server struct{ cfg Config }

func New(cfg Config) *Server { return &Server{cfg: cfg.withDefaults()} }

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }
func (s *Server) Run(ctx context.Context) error                    { <-ctx.Done(); return nil }
func (s *Server) Step() error                                      { return errPending }
func (s *Server) Create(objectType string, props map[string]string) (int64, error) {
	return 0, errPending
}
func (s *Server) Update(objectType string, id int64, props map[string]string) error { return errPending }
func (s *Server) Archive(objectType string, id int64) error                         { return errPending }
func (s *Server) Restore(objectType string, id int64) error                         { return errPending }
func (s *Server) Erase(objectType string, id int64) error                           { return errPending }
func (s *Server) Merge(objectType string, primary, other int64) (int64, error) {
	return 0, errPending
}
func (s *Server) Associate(fromType string, from int64, toType string, to int64, typeID int) error {
	return errPending
}
func (s *Server) Dissociate(fromType string, from int64, toType string, to int64, typeID int) error {
	return errPending
}
func (s *Server) AddProperty(objectType string, p PropertyDef) error    { return errPending }
func (s *Server) ArchiveProperty(objectType string, name string) error  { return errPending }
func (s *Server) AddObjectType(d SchemaDef) (typeID string, err error)  { return "", errPending }
func (s *Server) SetCalculated(objectType string, id int64, prop, value string) error {
	return errPending
}
func (s *Server) StampAll(objectType string, n int, at time.Time) error { return errPending }
func (s *Server) InjectFault(f Fault)                                   {}
func (s *Server) ClearFaults()                                          {}
func (s *Server) Snapshot(objectType string) []Record                   { return nil }
func (s *Server) Edges(fromType, toType string) []Edge                  { return nil }
func (s *Server) Stats() Stats                                          { return Stats{} }
func (s *Server) ObjectTypes() []string                                 { return nil }
