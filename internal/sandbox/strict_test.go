package sandbox_test

import (
	"slices"
	"strings"
	"testing"

	"hubpg/internal/sandbox"
)

// everyPath is each path with the methods it answers.
func everyPath(h *hub) map[string]string {
	contact, company := h.Snapshot("contacts")[0].ID, h.Snapshot("companies")[0].ID
	form := h.get("/marketing/v3/forms").text("results", 0, "id")
	link := "/crm/v4/objects/contacts/" + str(contact) + "/associations/"
	return map[string]string{
		"/crm/v3/objects/contacts":                           "GET POST",
		"/crm/v3/objects/contacts/" + str(contact):           "GET PATCH DELETE",
		"/crm/v3/objects/contacts/search":                    "POST",
		"/crm/v3/objects/contacts/merge":                     "POST",
		"/crm/v3/objects/contacts/gdpr-delete":               "POST",
		"/crm/v3/objects/contacts/batch/read":                "POST",
		"/crm/v3/objects/contacts/batch/create":              "POST",
		"/crm/v3/objects/contacts/batch/update":              "POST",
		"/crm/v3/objects/contacts/batch/upsert":              "POST",
		"/crm/v3/objects/contacts/batch/archive":             "POST",
		link + "companies":                                   "GET",
		link + "companies/" + str(company):                   "PUT DELETE",
		"/crm/v4/associations/contacts/companies/labels":     "GET POST",
		"/crm/v4/associations/contacts/companies/batch/read": "POST",
		"/crm/v3/properties/contacts":                        "GET POST",
		"/crm/v3/properties/contacts/email":                  "GET PATCH DELETE",
		"/crm/v3/properties/contacts/groups":                 "GET POST",
		"/crm/v3/properties/contacts/batch/read":             "POST",
		"/crm/v3/schemas/contacts":                           "GET",
		"/crm/v3/owners":                                     "GET",
		"/crm/v3/pipelines/deals":                            "GET POST",
		"/crm/v3/pipelines/deals/default":                    "GET PATCH PUT DELETE",
		"/crm/v3/lists":                                      "GET POST",
		"/crm/v3/lists/1":                                    "GET DELETE",
		"/crm/v3/lists/search":                               "POST",
		"/crm/v3/lists/1/memberships":                        "GET DELETE",
		"/crm/v3/lists/1/memberships/add":                    "PUT",
		"/crm/v3/exports/export/async":                       "POST",
		"/marketing/v3/forms":                                "GET",
		"/marketing/v3/emails":                               "GET",
		"/marketing/v3/campaigns":                            "GET",
		"/form-integrations/v1/submissions/forms/" + form:    "GET",
		"/settings/users/2026-03":                            "GET",
		"/account-info/v3/details":                           "GET",
		"/crm/limits/2026-09/records":                        "GET",
		"/crm/object-library/2026-09/enablement":             "GET",
		"/oauth/2026-09/token":                               "POST",
		"/oauth/2026-09/token/introspect":                    "POST",
		"/oauth/2026-09/token/revoke":                        "POST",
		"/oauth/authorize":                                   "GET POST",
	}
}

func TestEveryPathRefusesOtherMethods(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Contacts: 20})
	for path, methods := range everyPath(h) {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
			if slices.Contains(strings.Fields(methods), method) {
				continue
			}
			if got := h.call(method, path, "{}"); got.status != 405 || got.header.Get("Allow") == "" {
				t.Errorf("%s %s: %d %s", method, path, got.status, got.raw)
			}
		}
	}
}

func TestEveryPathNeedsAToken(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Contacts: 20})
	for path, methods := range everyPath(h) {
		if strings.HasPrefix(path, "/oauth/") {
			continue
		}
		method, _, _ := strings.Cut(methods, " ")
		for _, token := range []string{"", "wrong"} {
			if got := h.as(token, method, path, "{}"); got.status != 401 || got.text("category") != "INVALID_AUTHENTICATION" {
				t.Errorf("%s %s with %q: %d", method, path, token, got.status)
			}
		}
	}
}

func TestBodiesThatAreNoJSONAreRefused(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Contacts: 20})
	for path, methods := range everyPath(h) {
		if strings.HasPrefix(path, "/oauth/") {
			continue
		}
		for method := range strings.FieldsSeq(methods) {
			if method == "GET" || method == "DELETE" {
				continue
			}
			got := h.call(method, path, "{\"a\": ")
			if got.status != 400 || !strings.HasPrefix(got.text("message"), "Invalid input JSON on line 1") {
				t.Errorf("%s %s: %d %s", method, path, got.status, got.raw)
			}
		}
	}
}

func TestUnknownPathsAndVersionsAreNotFound(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Contacts: 20})
	for _, path := range []string{
		"/", "/crm", "/crm/v3", "/crm/v3/unicorns", "/crm/v2/objects/contacts", "/crm/objects/2024-09/contacts",
		"/crm/v3/associations/contacts/companies/types", "/crm/v3/lists/x", "/crm/v3/lists/1/members", "/marketing/v3/pages",
		"/marketing/forms/2026-09", "/settings/users/2026-09", "/crm/v3/exports", "/oauth/v2/token", "/oauth/2025-09/token",
		"/oauth/v1/token/introspect", "/contacts/v1/lists", "/webhooks-journal/journal/2026-09/earliest",
	} {
		if got := h.get(path); got.status != 404 {
			t.Errorf("%s: %d", path, got.status)
		}
	}
}
