package sandbox

// watch hears of every change in the account, with the account locked.
func (s *Server) watch(event) {}
