package sandbox

// pipeline is a sequence of stages for records of one type.
type pipeline struct {
	id, label        string
	order            int
	created, updated int64
	stages           []*stage
}

type stage struct {
	id, label        string
	order            int
	created, updated int64
	metadata         [][2]string // in wire order
	closed           bool
}

func (p *pipeline) append(dst []byte) []byte {
	dst = append(dst, '{')
	dst = appendString(appendMember(dst, "id"), p.id)
	dst = appendString(appendMember(dst, "label"), p.label)
	dst = appendInt(appendMember(dst, "displayOrder"), int64(p.order))
	dst = appendTime(appendMember(dst, "createdAt"), p.created)
	dst = appendTime(appendMember(dst, "updatedAt"), p.updated)
	dst = appendBool(appendMember(dst, "archived"), false)
	dst = append(appendMember(dst, "stages"), '[')
	for _, st := range p.stages {
		dst = st.append(appendComma(dst))
	}
	return append(dst, ']', '}')
}

func (st *stage) append(dst []byte) []byte {
	dst = append(dst, '{')
	dst = appendString(appendMember(dst, "id"), st.id)
	dst = appendString(appendMember(dst, "label"), st.label)
	dst = appendInt(appendMember(dst, "displayOrder"), int64(st.order))
	dst = append(appendMember(dst, "metadata"), '{')
	for _, m := range st.metadata {
		dst = appendString(appendMember(dst, m[0]), m[1])
	}
	dst = append(dst, '}')
	dst = appendTime(appendMember(dst, "createdAt"), st.created)
	dst = appendTime(appendMember(dst, "updatedAt"), st.updated)
	dst = appendBool(appendMember(dst, "archived"), false)
	dst = appendString(appendMember(dst, "writePermissions"), "CRM_PERMISSIONS_ENFORCEMENT")
	return append(dst, '}')
}

// servePipelines answers GET pipelines/{type}, /{type}/{id} and /{type}/{id}/stages.
func (s *Server) servePipelines(c *call) *reply {
	if len(c.rest) == 0 || len(c.rest) > 3 || len(c.rest) == 3 && c.rest[2] != "stages" {
		return c.notFound()
	}
	if r := c.only("GET"); r != nil {
		return r
	}
	t, r := s.typed(c, c.rest[0])
	if r != nil {
		return r
	}
	if r := c.needs(t.kind.readScope()); r != nil {
		return r
	}
	var out *reply
	s.account.view(func() {
		ps := s.account.pipelines[t.kind.typeID]
		if len(c.rest) == 1 {
			out = c.ok()
			out.body = append(out.body, `{"results":[`...)
			for _, p := range ps {
				out.body = p.append(appendComma(out.body))
			}
			out.body = append(out.body, ']', '}')
			return
		}
		for _, p := range ps {
			if p.id != c.rest[1] {
				continue
			}
			out = c.ok()
			if len(c.rest) == 2 {
				out.body = p.append(out.body)
				return
			}
			out.body = append(out.body, `{"results":[`...)
			for _, st := range p.stages {
				out.body = st.append(appendComma(out.body))
			}
			out.body = append(out.body, ']', '}')
			return
		}
		out = c.notFound()
	})
	return out
}
