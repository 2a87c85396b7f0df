package sandbox

import "time"

// purge erases what has been in the archive of t for too long and returns when the next one is due, or never.
func (a *account) purge(t *table, now int64) int64 {
	if t.purgeAt > now {
		return t.purgeAt
	}
	life := a.cfg.ArchiveLife.Milliseconds()
	next := int64(never)
	var old []*entry
	t.gone.ascend(place{}, func(e *entry) bool {
		if due := e.cur.archived + life; due <= now {
			old = append(old, e)
		} else {
			next = min(next, due)
		}
		return true
	})
	for _, e := range old {
		a.silently(func() { a.drop(t, e) })
	}
	t.purgeAt = next
	return next
}

// Age makes everything that ends by itself older: archived records and lists, tokens and codes, the journal, exports
// and their links. It is how a test waits for 90 days.
func (s *Server) Age(by time.Duration) {
	s.account.edit(func(now int64) {
		ms := by.Milliseconds()
		for _, t := range s.account.tables {
			t.gone.ascend(place{}, func(e *entry) bool {
				r := *e.cur
				r.archived -= ms
				e.cur = &r
				return true
			})
			t.purgeAt = 0
		}
		for _, g := range s.account.surfaces.Segments {
			if g.Deleted != 0 {
				g.Deleted -= ms
			}
		}
		s.account.due(now)
	})
	s.oauth.age(by)
	s.journal.age(by)
	s.exports.age(by)
	s.downloads.age(by)
}
