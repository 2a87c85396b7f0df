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
