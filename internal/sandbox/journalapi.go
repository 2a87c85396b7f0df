package sandbox

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
)

// maxJournalBatch is the most files of one request.
const maxJournalBatch = 100

// routeJournal takes the paths of the journal apart: webhooks-journal/{part}/{version}/… and webhooks/v4/{part}/….
func routeJournal(c *call, segments []string) bool {
	if len(segments) < 3 {
		return false
	}
	part := segments[1]
	switch first, second, third := segments[0], segments[1], segments[2]; {
	case first == "webhooks-journal" && (third == "2026-03" || third == "2027-03-beta"):
	case first == "webhooks" && second == "v4":
		part = third
	default:
		return false
	}
	c.version, c.family, c.rest, c.label = "2026-03", part, segments[3:], "journal"
	switch part {
	case "journal", "journal-local":
		c.family, c.limits = "journal", limitJournal
	case "subscriptions":
		c.limits = limitJournalSubscriptions
	case "snapshots":
		c.limits = limitJournalSnapshots
	default:
		return false
	}
	return true
}

// serveJournal answers everything of the journal, to client credentials only.
func (s *Server) serveJournal(c *call) *reply {
	scope := "developer.webhooks_journal.read"
	switch {
	case c.family == "journal":
	case c.family == "snapshots" && c.method == http.MethodGet:
		scope = "developer.webhooks_journal.snapshots.read"
	case c.family == "snapshots":
		scope = "developer.webhooks_journal.snapshots.write"
	case c.method == http.MethodGet:
		scope = "developer.webhooks_journal.subscriptions.read"
	default:
		scope = "developer.webhooks_journal.subscriptions.write"
	}
	if r := c.needs(scope); r != nil {
		return r
	}
	a := s.journal.apps[c.token.app.ID] // never changes
	switch c.family {
	case "journal":
		return s.readJournal(c, a)
	case "subscriptions":
		return s.serveJournalSubscriptions(c, a)
	default:
		return s.serveSnapshots(c, a)
	}
}

// readJournal answers earliest, latest, offset/{offset}/next and their batches.
func (s *Server) readJournal(c *call, a *appJournal) *reply {
	rest := c.rest
	batch := len(rest) > 0 && rest[0] == "batch"
	if batch {
		rest = rest[1:]
	}
	if batch && slices.Equal(rest, []string{"read"}) {
		return s.readOffsets(c, a)
	}
	if r := c.only(http.MethodGet); r != nil {
		return r
	}
	count := 1
	if batch {
		if len(rest) == 0 {
			return c.notFound()
		}
		n, err := strconv.Atoi(rest[len(rest)-1])
		if err != nil || n < 1 || n > maxJournalBatch {
			return c.invalid(fmt.Sprintf("count must be between 1 and %d", maxJournalBatch))
		}
		count, rest = n, rest[:len(rest)-1]
	}
	portal := c.query.Get("installPortalId")
	if _, err := strconv.ParseInt(portal, 10, 64); portal != "" && err != nil {
		return c.invalidParameter("installPortalId", portal)
	}
	j := s.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	j.settle(a, s.cfg.Journal, nowMS())
	files := a.files
	switch {
	case slices.Equal(rest, []string{"earliest"}):
	case slices.Equal(rest, []string{"latest"}):
		files = files[max(0, len(files)-count):]
	case len(rest) == 3 && rest[0] == "offset" && rest[2] == "next", batch && len(rest) == 2 && rest[1] == "next":
		offset := rest[len(rest)-2]
		i := slices.IndexFunc(files, func(f *journalFile) bool { return f.offset == offset })
		if i < 0 {
			return c.fail(failure{
				status: http.StatusNotFound, category: "OBJECT_NOT_FOUND",
				message: "No journal entry with offset " + offset + " exists, or it is past its retention",
			})
		}
		files = files[i+1:]
	default:
		return c.notFound()
	}
	if portal != "" && portal != strconv.FormatInt(s.cfg.PortalID, 10) {
		files = nil
	}
	files = files[:min(count, len(files))]
	if len(files) == 0 {
		return c.noContent()
	}
	if !batch {
		return c.answer(http.StatusOK, s.fileAnswer(c, files[0]))
	}
	return s.filesAnswer(c, files, nil)
}

func (s *Server) fileAnswer(c *call, f *journalFile) map[string]string {
	address, expires := s.downloads.offer(c.origin, f.content(), "application/json", journalLinkLife)
	return map[string]string{
		"url": address, "expiresAt": instantText(expires.UnixMilli()), "currentOffset": f.offset,
	}
}

func (s *Server) filesAnswer(c *call, files []*journalFile, missing []string) *reply {
	now := instantText(nowMS())
	results := []map[string]string{}
	for _, f := range files {
		results = append(results, s.fileAnswer(c, f))
	}
	body := map[string]any{"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now}
	status := http.StatusOK
	if len(missing) > 0 {
		status = http.StatusMultiStatus
		body["numErrors"] = 1
		body["errors"] = []any{map[string]any{
			"status": "error", "category": "OBJECT_NOT_FOUND", "message": "Some offsets do not exist",
			"context": map[string]any{"offsets": missing},
		}}
	}
	return c.answer(status, body)
}

// readOffsets answers POST batch/read.
func (s *Server) readOffsets(c *call, a *appJournal) *reply {
	if r := c.only(http.MethodPost); r != nil {
		return r
	}
	var body struct {
		Inputs []string `json:"inputs"`
	}
	if r := c.decode(&body); r != nil {
		return r
	}
	if r := c.batchSize(len(body.Inputs), maxJournalBatch); r != nil {
		return r
	}
	j := s.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	j.settle(a, s.cfg.Journal, nowMS())
	var files []*journalFile
	var missing []string
	for _, offset := range body.Inputs {
		if i := slices.IndexFunc(a.files, func(f *journalFile) bool { return f.offset == offset }); i >= 0 {
			files = append(files, a.files[i])
		} else {
			missing = append(missing, offset)
		}
	}
	return s.filesAnswer(c, files, missing)
}

// journalActions are what each type of subscription can ask for.
func journalActions(subscriptionType string) (actions []string, ok bool) {
	switch subscriptionType {
	case "OBJECT":
		return []string{"CREATE", "UPDATE", "DELETE", "MERGE", "RESTORE"}, true
	case "ASSOCIATION":
		return []string{"ASSOCIATION_ADDED", "ASSOCIATION_REMOVED"}, true
	case "LIST_MEMBERSHIP":
		return []string{"ADDED_TO_LIST", "REMOVED_FROM_LIST"}, true
	case "GDPR_PRIVACY_DELETION":
		return []string{"PRIVACY_DELETION"}, true
	case "APP_LIFECYCLE_EVENT":
		return []string{"INSTALL", "UNINSTALL"}, true
	default:
		return nil, false
	}
}

// serveJournalSubscriptions answers subscriptions[/{id}] and subscriptions/portals/{portalId}.
func (s *Server) serveJournalSubscriptions(c *call, a *appJournal) *reply {
	switch {
	case len(c.rest) == 0 && c.method == http.MethodPost:
		return s.addJournalSubscription(c, a)
	case len(c.rest) == 0:
		if r := c.only(http.MethodGet, http.MethodPost); r != nil {
			return r
		}
		s.journal.mu.Lock()
		defer s.journal.mu.Unlock()
		return c.answer(http.StatusOK, map[string]any{"results": append([]*journalSubscription{}, a.subs...)})
	}
	whole := len(c.rest) == 2 && c.rest[0] == "portals" && c.rest[1] == strconv.FormatInt(s.cfg.PortalID, 10)
	if !whole && len(c.rest) != 1 {
		return c.notFound()
	}
	if r := c.only(http.MethodGet, http.MethodDelete); r != nil {
		return r
	}
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	if whole {
		s.journal.active.Add(-int64(len(a.subs)))
		a.subs = nil
		return c.noContent()
	}
	i := slices.IndexFunc(a.subs, func(sub *journalSubscription) bool { return strconv.FormatInt(sub.ID, 10) == c.rest[0] })
	if i < 0 {
		return c.notFound()
	}
	if c.method == http.MethodDelete {
		a.subs = slices.Delete(a.subs, i, i+1)
		s.journal.active.Add(-1)
		return c.noContent()
	}
	return c.answer(http.StatusOK, a.subs[i])
}

func (s *Server) addJournalSubscription(c *call, a *appJournal) *reply {
	var sub journalSubscription
	if r := c.decode(&sub); r != nil {
		return r
	}
	actions, ok := journalActions(sub.SubscriptionType)
	if !ok {
		return c.invalid(fmt.Sprintf("Unknown subscription type %q", sub.SubscriptionType))
	}
	for _, action := range sub.Actions {
		if !slices.Contains(actions, action) {
			return c.invalid(fmt.Sprintf("Action %q does not belong to %s", action, sub.SubscriptionType))
		}
	}
	if sub.SubscriptionType == "APP_LIFECYCLE_EVENT" {
		if sub.PortalID != 0 {
			return c.invalid("APP_LIFECYCLE_EVENT subscriptions have no portalId")
		}
	} else if sub.PortalID != s.cfg.PortalID {
		return c.invalid(fmt.Sprintf("The app is not installed in portal %d", sub.PortalID))
	}
	if sub.SubscriptionType == "OBJECT" || sub.SubscriptionType == "ASSOCIATION" {
		if sub.ObjectTypeID == "" {
			return c.missing("objectTypeId")
		}
		t, r := s.typed(c, sub.ObjectTypeID)
		if r != nil {
			return r
		}
		if sub.ObjectTypeID != t.kind.typeID {
			return c.invalid("objectTypeId must be a type id: " + sub.ObjectTypeID)
		}
	}
	j := s.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lastSub++
	sub.ID, sub.AppID = j.lastSub, c.token.app.ID
	sub.CreatedAt = instantText(nowMS())
	sub.UpdatedAt = sub.CreatedAt
	a.subs = append(a.subs, &sub)
	j.active.Add(1)
	return c.answer(http.StatusCreated, sub)
}

// serveSnapshots answers POST snapshots/crm and GET snapshots/status/{id}. A snapshot is in the journal at once; that of
// a record that does not exist has failed.
func (s *Server) serveSnapshots(c *call, a *appJournal) *reply {
	if len(c.rest) == 2 && c.rest[0] == "status" {
		if r := c.only(http.MethodGet); r != nil {
			return r
		}
		s.journal.mu.Lock()
		status, ok := a.snapshots[c.rest[1]]
		s.journal.mu.Unlock()
		if !ok {
			return c.notFound()
		}
		return c.answer(http.StatusOK, map[string]string{"id": c.rest[1], "status": status})
	}
	if !slices.Equal(c.rest, []string{"crm"}) {
		return c.notFound()
	}
	if r := c.only(http.MethodPost); r != nil {
		return r
	}
	var body struct {
		Requests []struct {
			PortalID     int64    `json:"portalId"`
			ObjectTypeID string   `json:"objectTypeId"`
			ObjectID     loose    `json:"objectId"`
			Properties   []string `json:"properties"`
		} `json:"snapshotRequests"`
	}
	if r := c.decode(&body); r != nil {
		return r
	}
	if len(body.Requests) == 0 || len(body.Requests) > maxBatch {
		return c.invalid(fmt.Sprintf("snapshotRequests must have between 1 and %d elements", maxBatch))
	}
	responses := []map[string]any{}
	j := s.journal
	s.account.view(func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		for _, in := range body.Requests {
			t := s.account.table(in.ObjectTypeID)
			if t == nil || in.PortalID != s.cfg.PortalID {
				continue
			}
			j.n++
			id := fmt.Sprintf("snapshot-%d", j.n)
			responses = append(responses, map[string]any{
				"portalId": in.PortalID, "objectTypeId": in.ObjectTypeID, "objectId": in.ObjectID.id(), "snapshotStatusId": id,
			})
			a.snapshots[id] = "FAILED"
			if e := t.lookup(in.ObjectID.id(), true); e != nil && e.cur.archived == 0 {
				a.snapshots[id] = "SUCCESS"
				now := nowMS()
				values := map[string]string{}
				for _, name := range in.Properties {
					if p := t.property(name); p != nil {
						values[name] = string(t.text(e.cur, p, nil))
					}
				}
				j.write(a, &journalEvent{
					Type: "crmObject", Action: "SNAPSHOT", PortalID: in.PortalID, OccurredAt: instantText(now),
					ObjectTypeID: t.kind.typeID, ObjectID: e.id, Properties: values, SnapshotStatusID: id,
				}, now)
			}
		}
	})
	return c.answer(http.StatusOK, map[string]any{"snapshotResponses": responses})
}

// lifecycle tells an app's journal that it was installed or uninstalled.
func (s *Server) lifecycle(a *app, action string) {
	j := s.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, sub := range j.apps[a.ID].subs {
		if sub.SubscriptionType == "APP_LIFECYCLE_EVENT" && allowed(sub.Actions, action) {
			now := nowMS()
			j.write(j.apps[a.ID], &journalEvent{
				Type: "app_lifecycle_event", Action: action, PortalID: s.cfg.PortalID, OccurredAt: instantText(now), AppID: a.ID,
			}, now)
			return
		}
	}
}
