package sandbox

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

type handler func(*call) *reply

// dated are the date-based API versions served.
var dated = [...]string{"2025-09", "2026-03", "2026-09"}

// route takes the path apart into version, family and rest, whichever of HubSpot's two orders it has,
// and finds the handler; nil when there is none. It sets what the call counts as.
func (s *Server) route(c *call, escaped string) handler {
	segments := strings.Split(strings.Trim(escaped, "/"), "/")
	for i, segment := range segments {
		if plain, err := url.PathUnescape(segment); err == nil {
			segments[i] = plain
		}
	}
	if handle := s.routeOAuth(c, segments); handle != nil {
		return handle
	}
	if len(segments) == 2 && segments[0] == downloadPrefix {
		c.label, c.limits, c.open, c.rest = "download", limitNone, true, segments[1:]
		return s.serveDownload
	}
	if routeJournal(c, segments) {
		return s.serveJournal
	}
	if len(segments) < 3 {
		return nil
	}
	legacy := func(v string) bool { return v == "v3" || v == "v4" }
	isDated := func(v string) bool { return slices.Contains(dated[:], v) }
	switch first, second, third := segments[0], segments[1], segments[2]; {
	case first == "crm" && legacy(second):
		c.version, c.family, c.rest = second, third, segments[3:]
	case first == "crm" && isDated(third):
		c.version, c.family, c.rest = third, second, segments[3:]
	case first == "crm-object-schemas" && third == "schemas" && (isDated(second) || second == "v3"):
		c.version, c.family, c.rest = second, "schemas", segments[3:]
	case first == "marketing" && s.marketing(c, segments, isDated):
	case first == "form-integrations" && second == "v1" && len(segments) == 5 && third == "submissions" && segments[3] == "forms":
		c.version, c.family, c.rest = second, "submissions", segments[4:]
	case first == "settings" && second == "users" && (third == "2026-03" || third == "2025-09"),
		first == "settings" && second == "v3" && third == "users":
		c.version, c.family, c.rest = "2026-03", "users", segments[3:]
	case (first == "webhooks" && (second == "v3" || second == "2025-09" || second == "2026-03") ||
		first == "app-webhooks" && (second == "2025-09" || second == "2026-09")) && len(segments) >= 4:
		c.version, c.family, c.rest, c.open = second, "webhooks", segments[2:], true
	case first == "account-info" && (isDated(second) || second == "v3"):
		c.version, c.family, c.rest = second, "account", segments[2:]
	default:
		return nil
	}
	if c.version == "v4" && c.family != "objects" && c.family != "associations" {
		return nil
	}
	switch c.family {
	case "objects":
		return s.routeObjects(c)
	case "associations":
		if c.version == "v3" {
			return nil
		}
		c.label, c.limits = "associations", limitAssociations
		return s.serveAssociations
	case "properties":
		c.label = "properties"
		return s.serveProperties
	case "schemas":
		c.label = "schemas"
		return s.serveSchemas
	case "lists":
		c.label = "lists"
		return s.serveSegments
	case "forms", "submissions":
		c.label = "forms"
		if c.family == "submissions" {
			return s.serveSubmissions
		}
		return s.serveForms
	case "emails":
		c.label = "emails"
		return s.serveEmails
	case "campaigns":
		c.label = "campaigns"
		return s.serveCampaigns
	case "users":
		c.label = "users"
		return s.serveUsers
	case "webhooks":
		c.label = "webhooks"
		return s.serveWebhooks
	case "exports":
		c.label = "exports"
		return s.serveExports
	case "owners":
		c.label = "owners"
		return s.serveOwners
	case "pipelines":
		c.label = "pipelines"
		return s.servePipelines
	case "account", "limits", "object-library":
		c.label = "account"
		return s.serveAccount
	default:
		return nil
	}
}

// marketing takes the marketing paths apart and tells whether there is one.
func (s *Server) marketing(c *call, segments []string, isDated func(string) bool) bool {
	second, third := segments[1], segments[2]
	switch {
	case second == "v3" && (third == "forms" || third == "emails" || third == "campaigns"):
		c.version, c.family = "v3", third
	case second == "forms" && third == "2026-09-beta":
		c.version, c.family = third, second
	case (second == "emails" || second == "campaigns") && isDated(third):
		c.version, c.family = third, second
	default:
		return false
	}
	c.rest = segments[3:]
	return true
}

// routeObjects finds the handler for a path below objects.
func (s *Server) routeObjects(c *call) handler {
	n := len(c.rest)
	if n >= 4 && c.rest[2] == "associations" {
		c.label = "associations"
		return s.serveRecordAssociations
	}
	if c.version == "v4" || n == 0 {
		return nil
	}
	switch {
	case n == 1 && c.method == http.MethodPost:
		c.label = "write"
		return s.serveCreate
	case n == 1:
		c.label = "list"
		return s.serveList
	case n == 2 && c.rest[1] == "search":
		c.label, c.limits = "search", limitSearch
		return s.serveSearch
	case n == 2 && c.rest[1] == "merge":
		c.label = "write"
		return s.serveMerge
	case n == 2 && c.rest[1] == "gdpr-delete":
		c.label = "write"
		return s.serveErase
	case n == 2:
		c.label = "write"
		if c.method == http.MethodGet {
			c.label = "read"
		}
		return s.serveRecord
	case n == 3 && c.rest[1] == "batch":
		c.label = "write"
		switch c.rest[2] {
		case "read":
			c.label = "batch-read"
			return s.serveBatchRead
		case "create":
			return s.serveBatchCreate
		case "update":
			return s.serveBatchUpdate
		case "upsert":
			return s.serveBatchUpsert
		case "archive":
			return s.serveBatchArchive
		}
	}
	return nil
}

// typed finds the table of a path segment.
func (s *Server) typed(c *call, segment string) (*table, *reply) {
	var t *table
	s.account.view(func() { t = s.account.table(segment) })
	if t == nil {
		return nil, c.unknownType(segment)
	}
	if t.kind.inactive {
		return nil, c.missingScopes(t.kind.readScope())
	}
	return t, nil
}
