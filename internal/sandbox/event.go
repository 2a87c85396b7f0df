package sandbox

import (
	"slices"
	"strconv"
)

// eventKind is a kind of change that an app can hear of.
type eventKind uint8

const (
	recordCreated eventKind = iota
	recordChanged
	recordDeleted
	recordRestored
	recordMerged
	recordErased
	linkAdded
	linkRemoved
	segmentJoined
	segmentLeft
)

// event is one change, for the webhooks and the journal. The values belong to the account and never change.
type event struct {
	kind eventKind
	at   int64 // epoch ms
	t    *table
	id   int64

	source, sourceID string

	values []change // of a created or changed record

	primary, loser int64 // of a merge, whose new record is id
	moved          int   // properties a merge took from the loser

	d     direction // of an association, seen from id
	to    int64
	other *table
	link  *linkType

	segment *segment
}

// origin says who changes the account at the moment.
type changeOrigin struct{ source, id string }

// edit runs fn with the account writable, on behalf of the app that calls.
func (c *call) edit(fn func(now int64)) {
	a := c.s.account
	a.edit(func(now int64) {
		was := a.origin
		a.origin = changeOrigin{"INTEGRATION", strconv.FormatInt(c.s.appID(c.app()), 10)}
		defer func() { a.origin = was }()
		fn(now)
	})
}

// appID identifies an app, or the one behind the static token.
func (s *Server) appID(a *app) int64 {
	if a == nil {
		return s.oauth.apps[0].ID - 1
	}
	return a.ID
}

// happened tells the watcher of a change, if there is one.
func (a *account) happened(ev event) {
	if a.watch == nil || a.muted > 0 {
		return
	}
	if ev.source == "" {
		ev.source = a.origin.source
	}
	ev.sourceID = a.origin.id
	if ev.at == 0 {
		ev.at = nowMS()
	}
	a.watch(ev)
}

// silently runs fn without telling the watcher what it changes.
func (a *account) silently(fn func()) {
	a.muted++
	defer func() { a.muted-- }()
	fn()
}

// linkChanged tells the watcher how one side of an association changed: a type at a time.
func (a *account) linkChanged(d direction, from, to int64, before, after typeSet) {
	t := a.byPath[d.from]
	for _, id := range after {
		if !slices.Contains(before, id) {
			a.happened(event{kind: linkAdded, t: t, id: from, d: d, to: to, other: a.byPath[d.to], link: a.links.byID[d][id]})
		}
	}
	for _, id := range before {
		if !slices.Contains(after, id) {
			a.happened(event{kind: linkRemoved, t: t, id: from, d: d, to: to, other: a.byPath[d.to], link: a.links.byID[d][id]})
		}
	}
}
