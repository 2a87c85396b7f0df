package sandbox

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
)

// adminPrefix is where the admin API lives. It asks for no token.
const adminPrefix = "/_sandbox/"

// adminBody is the request of any admin call; each uses some members.
type adminBody struct {
	Type       string            `json:"type"`
	ID         int64             `json:"id,string"`
	Other      int64             `json:"other,string"`
	ToType     string            `json:"toType"`
	To         int64             `json:"to,string"`
	TypeID     int               `json:"typeId"`
	Properties map[string]string `json:"properties"`
	Property   json.RawMessage   `json:"property"`
	Name       string            `json:"name"`
	Value      string            `json:"value"`
	Schema     SchemaDef         `json:"schema"`
	Count      int               `json:"count"`
	At         time.Time         `json:"at"`
	Fault      Fault             `json:"fault"`
	Scopes     []string          `json:"scopes"`
	ClientID   string            `json:"clientId"`
	Seconds    int               `json:"seconds"`
	Email      string            `json:"email"`
	Processing string            `json:"processing"`
	Filter     string            `json:"filter"`
	Form       string            `json:"form"`
	URL        string            `json:"url"`

	Subscription WebhookSubscription `json:"subscription"`
}

// serveAdmin answers the admin API: see the package documentation.
func (s *Server) serveAdmin(w http.ResponseWriter, r *http.Request) {
	action := strings.TrimPrefix(r.URL.Path, adminPrefix)
	if r.Method == http.MethodGet {
		s.serveAdminRead(w, r, action)
		return
	}
	if r.Method != http.MethodPost {
		adminError(w, http.StatusMethodNotAllowed, errors.New("use GET or POST"))
		return
	}
	var b adminBody
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil && len(raw) > 0 {
		err = json.Unmarshal(raw, &b)
	}
	if err != nil {
		adminError(w, http.StatusBadRequest, err)
		return
	}
	out, err := s.admin(action, &b)
	switch {
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrUnknownType):
		adminError(w, http.StatusNotFound, err)
	case err != nil:
		adminError(w, http.StatusBadRequest, err)
	default:
		adminAnswer(w, http.StatusOK, out)
	}
}

func (s *Server) serveAdminRead(w http.ResponseWriter, r *http.Request, action string) {
	q := r.URL.Query()
	switch action {
	case "stats":
		adminAnswer(w, http.StatusOK, s.Stats())
	case "types":
		counts := map[string]int{}
		for _, name := range s.ObjectTypes() {
			counts[name] = s.Count(name)
		}
		adminAnswer(w, http.StatusOK, counts)
	case "snapshot":
		adminAnswer(w, http.StatusOK, s.Snapshot(q.Get("type")))
	case "edges":
		adminAnswer(w, http.StatusOK, s.Edges(q.Get("type"), q.Get("toType")))
	default:
		adminError(w, http.StatusNotFound, errors.New("unknown action "+action))
	}
}

// admin carries out one action.
func (s *Server) admin(action string, b *adminBody) (any, error) {
	done := struct{}{}
	id := func(n int64, err error) (any, error) {
		return struct {
			ID int64 `json:"id,string"`
		}{n}, err
	}
	switch action {
	case "create":
		return id(s.Create(b.Type, b.Properties))
	case "update":
		return done, s.Update(b.Type, b.ID, b.Properties)
	case "archive":
		return done, s.Archive(b.Type, b.ID)
	case "restore":
		return done, s.Restore(b.Type, b.ID)
	case "erase":
		return done, s.Erase(b.Type, b.ID)
	case "merge":
		return id(s.Merge(b.Type, b.ID, b.Other))
	case "associate":
		return done, s.Associate(b.Type, b.ID, b.ToType, b.To, b.TypeID)
	case "dissociate":
		return done, s.Dissociate(b.Type, b.ID, b.ToType, b.To, b.TypeID)
	case "calculate":
		return done, s.SetCalculated(b.Type, b.ID, b.Name, b.Value)
	case "stamp":
		if b.At.IsZero() {
			b.At = time.Now()
		}
		return done, s.StampAll(b.Type, b.Count, b.At)
	case "property/add", "property/change":
		var d PropertyDef
		if err := json.Unmarshal(b.Property, &d); err != nil {
			return nil, err
		}
		if action == "property/add" {
			return done, s.AddProperty(b.Type, d)
		}
		return done, s.ChangeProperty(b.Type, d)
	case "property/archive":
		return done, s.ArchiveProperty(b.Type, b.Name)
	case "type/add":
		typeID, err := s.AddObjectType(b.Schema)
		return map[string]string{"typeId": typeID}, err
	case "step":
		for range max(1, b.Count) {
			s.Step()
		}
		return done, nil
	case "scopes/withhold":
		s.WithholdScopes(b.Scopes...)
		return done, nil
	case "tokens/expire":
		s.ExpireTokens()
		return done, nil
	case "install":
		token, err := s.Install(b.ClientID, b.Scopes...)
		return map[string]string{"refreshToken": token}, err
	case "age":
		s.Age(time.Duration(b.Seconds) * time.Second)
		return done, nil
	case "owner/add":
		return id(s.AddOwner(b.Email, b.Properties["firstname"], b.Properties["lastname"]))
	case "owner/archive":
		return done, s.ArchiveOwner(b.ID)
	case "list/add":
		return id(s.AddList(b.Type, b.Name, b.Processing, b.Filter, b.Value))
	case "form/submit":
		return done, s.SubmitForm(b.Form, b.Properties)
	case "webhooks/target":
		return done, s.SetWebhookTarget(b.ClientID, b.URL, max(b.Count, 10))
	case "webhooks/subscribe":
		return id(s.Subscribe(b.ClientID, b.Subscription))
	case "uninstall":
		return done, s.Uninstall(b.ClientID)
	case "fault":
		return done, s.faults.add(b.Fault)
	case "faults/clear":
		s.ClearFaults()
		return done, nil
	case "stats/reset":
		s.ResetStats()
		return done, nil
	default:
		return nil, errors.Join(ErrNotFound, errors.New("unknown action "+action))
	}
}

func adminAnswer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may have gone
}

func adminError(w http.ResponseWriter, status int, err error) {
	adminAnswer(w, status, map[string]string{"error": err.Error()})
}
