package sandbox

// watch hears of every change in the account, with the account locked.
func (s *Server) watch(ev event) {
	s.webhooks.record(s.cfg.PortalID, s.cfg.Webhooks, ev)
	s.journal.record(s.cfg.PortalID, ev)
}
