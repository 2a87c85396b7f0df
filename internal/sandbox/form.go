package sandbox

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
)

const (
	maxFormPage       = 500
	maxSubmissionPage = 50
)

// form is a marketing form with what was submitted to it. Its members are exported for [Server.Save].
type form struct {
	ID, Type, Name   string
	Created, Updated int64
	Archived         bool
	Fields           []string // of contacts
	Submissions      []submission
}

type submission struct {
	At     int64
	Values [][2]string
	Page   string
}

// guid is a stable UUID made from a key.
func guid(seed int64, key string, n int) string {
	a, b := mix(uint64(seed)^uniqueKey(key)+uint64(n)), mix(uniqueKey(key)^uint64(n)<<32+uint64(seed))
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", a>>32, a>>16&0xffff, a&0xfff, b>>48&0x3fff|0x8000, b&0xffffffffffff)
}

func (a *account) seedForms(now int64) {
	fields := []string{"email", "firstname", "lastname", "phone", "company"}
	for i, f := range []form{
		{Type: "hubspot", Name: "Contact us"},
		{Type: "hubspot", Name: "Request a service visit"},
		{Type: "captured", Name: "#newsletter .footer-form"},
		{Type: "flow", Name: "Popup: spare parts catalogue"},
		{Type: "blog_comment", Name: "Blog comments"},
		{Type: "hubspot", Name: "Trade fair 2024", Archived: true},
	} {
		f.ID, f.Fields = guid(a.cfg.Seed, "form", i), fields[:2+i%4]
		f.Created = now - int64(700-i*60)*86_400_000
		f.Updated = f.Created + int64(i)*7*86_400_000
		a.surfaces.Forms = append(a.surfaces.Forms, &f)
	}
	contacts := a.table("0-1")
	n := 0
	contacts.live.ascend(place{}, func(e *entry) bool {
		if mix(uint64(e.id))%5 == 0 {
			f := a.surfaces.Forms[n%2]
			sub := submission{At: now - int64(n)*3_600_000 - int64(mix(uint64(n))%1_000_000), Page: "https://www.northbeam.example/contact"}
			for _, name := range f.Fields {
				if p := contacts.property(name); p != nil {
					sub.Values = append(sub.Values, [2]string{name, string(packedValue(e.cur.data, p.slot))})
				}
			}
			f.Submissions = append(f.Submissions, sub)
			n++
		}
		return n < 300
	})
	for _, f := range a.surfaces.Forms {
		slices.SortFunc(f.Submissions, func(x, y submission) int { return cmp.Compare(y.At, x.At) })
	}
}

// SubmitForm adds a submission to a form.
func (s *Server) SubmitForm(formID string, values map[string]string) error {
	err := fmt.Errorf("form %s: %w", formID, ErrNotFound)
	s.account.edit(func(now int64) {
		for _, f := range s.account.surfaces.Forms {
			if f.ID != formID {
				continue
			}
			sub := submission{At: now, Page: "https://www.northbeam.example/"}
			for name, v := range values {
				sub.Values = append(sub.Values, [2]string{name, v})
			}
			slices.SortFunc(sub.Values, func(x, y [2]string) int { return cmp.Compare(x[0], y[0]) })
			f.Submissions = slices.Insert(f.Submissions, 0, sub)
			err = nil
		}
	})
	return err
}

func (f *form) append(dst []byte) []byte {
	dst = append(dst, '{')
	dst = appendString(appendMember(dst, "id"), f.ID)
	dst = appendString(appendMember(dst, "name"), f.Name)
	dst = appendString(appendMember(dst, "formType"), f.Type)
	dst = appendTime(appendMember(dst, "createdAt"), f.Created)
	dst = appendTime(appendMember(dst, "updatedAt"), f.Updated)
	dst = appendBool(appendMember(dst, "archived"), f.Archived)
	dst = append(appendMember(dst, "fieldGroups"), `[{"groupType":"default_group","richTextType":"text","fields":[`...)
	for _, name := range f.Fields {
		dst = append(appendComma(dst), `{"objectTypeId":"0-1"`...)
		dst = appendString(appendMember(dst, "name"), name)
		dst = appendString(appendMember(dst, "label"), name)
		dst = appendBool(appendMember(dst, "required"), name == "email")
		dst = append(dst, `,"hidden":false,"fieldType":"single_line_text"}`...)
	}
	return append(dst, `]}],"configuration":{"language":"en"},"displayOptions":{},"legalConsentOptions":{"type":"none"}}`...)
}

// serveForms answers GET forms and GET forms/{id}. Without formTypes only forms of type hubspot are listed.
func (s *Server) serveForms(c *call) *reply {
	if r := c.only(http.MethodGet); r != nil {
		return r
	}
	if r := c.needs("forms"); r != nil {
		return r
	}
	archived, r := c.flag("archived")
	if r != nil {
		return r
	}
	if len(c.rest) > 1 {
		return c.notFound()
	}
	if len(c.rest) == 1 {
		out := c.notFound()
		s.account.view(func() {
			for _, f := range s.account.surfaces.Forms {
				if f.ID == c.rest[0] && f.Archived == archived {
					out = c.ok()
					out.body = f.append(out.body)
				}
			}
		})
		return out
	}
	types := c.list("formTypes")
	if len(types) == 0 {
		types = []string{"hubspot"}
	}
	for _, v := range types {
		if !slices.Contains([]string{"hubspot", "captured", "flow", "blog_comment", "all"}, v) {
			return c.invalidParameter("formTypes", v)
		}
	}
	return paged(c, maxFormPage, 50, func() []*form {
		return filtered(s.account.surfaces.Forms, func(f *form) bool {
			return f.Archived == archived && (slices.Contains(types, "all") || slices.Contains(types, f.Type))
		})
	}, (*form).append)
}

// serveSubmissions answers GET form-integrations/v1/submissions/forms/{id}, newest first.
func (s *Server) serveSubmissions(c *call) *reply {
	if r := c.only(http.MethodGet); r != nil {
		return r
	}
	if r := c.needs("forms"); r != nil {
		return r
	}
	var f *form
	s.account.view(func() {
		for _, one := range s.account.surfaces.Forms {
			if one.ID == c.rest[0] {
				f = one
			}
		}
	})
	switch {
	case f == nil:
		return c.notFound()
	case f.Type == "blog_comment":
		return c.fail(failure{
			status: http.StatusBadRequest, category: "VALIDATION_ERROR", subCategory: "FORM_TYPE_NOT_ALLOWED",
			message: "Submissions of forms of type blog_comment cannot be read",
		})
	}
	return paged(c, maxSubmissionPage, 20, func() []submission { return f.Submissions }, submission.append)
}

func (sub submission) append(dst []byte) []byte {
	dst = append(dst, '{')
	dst = appendInt(appendMember(dst, "submittedAt"), sub.At)
	dst = append(appendMember(dst, "values"), '[')
	for _, v := range sub.Values {
		dst = append(appendComma(dst), '{')
		dst = appendString(appendMember(dst, "name"), v[0])
		dst = appendString(appendMember(dst, "value"), v[1])
		dst = append(appendString(appendMember(dst, "objectTypeId"), "0-1"), '}')
	}
	return append(appendString(appendMember(append(dst, ']'), "pageUrl"), sub.Page), '}')
}

func filtered[T any](all []T, keep func(T) bool) []T {
	var out []T
	for _, v := range all {
		if keep(v) {
			out = append(out, v)
		}
	}
	return out
}

// paged renders a page of what list returns, under the account's lock, with an opaque cursor.
func paged[T any](c *call, most, otherwise int, list func() []T, render func(T, []byte) []byte) *reply {
	limit, r := c.limit(otherwise, most)
	if r != nil {
		return r
	}
	position, r := c.readCursor()
	if r != nil {
		return r
	}
	from := 0
	if position != "" {
		n, err := strconv.Atoi(position)
		if err != nil || n < 0 {
			return c.invalidParameter("after", c.query.Get("after"))
		}
		from = n
	}
	out := c.ok()
	c.s.account.view(func() {
		all := list()
		from = min(from, len(all))
		to := min(from+limit, len(all))
		out.body = append(out.body, '{')
		if c.label == "emails" || c.label == "campaigns" {
			out.body = appendInt(appendMember(out.body, "total"), int64(len(all)))
		}
		out.body = append(appendMember(out.body, "results"), '[')
		for _, v := range all[from:to] {
			out.body = render(v, appendComma(out.body))
		}
		out.body = append(out.body, ']')
		if to < len(all) {
			out.body = c.appendPaging(out.body, cursorText(strconv.Itoa(to)))
		}
		out.body = append(out.body, '}')
	})
	return out
}
