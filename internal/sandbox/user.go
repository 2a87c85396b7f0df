package sandbox

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
)

// userTeam is a team of users. Its members are exported for [Server.Save].
type userTeam struct {
	ID, Name         string
	Users, Secondary []int64
}

// userRole is a permission set.
type userRole struct {
	ID           string `json:"id"`
	Name         string `json:"name"`
	RequiresSeat bool   `json:"requiresBillingWrite"`
}

var userRoles = [...]userRole{{"100000", "Sales", false}, {"100001", "Service", false}}

// seedTeams gathers the teams of the seeded owners.
func (a *account) seedTeams() {
	for _, o := range a.owners {
		for _, t := range o.teams {
			i := slices.IndexFunc(a.surfaces.Teams, func(u *userTeam) bool { return u.ID == t.id })
			if i < 0 {
				i = len(a.surfaces.Teams)
				a.surfaces.Teams = append(a.surfaces.Teams, &userTeam{ID: t.id, Name: t.name})
			}
			a.surfaces.Teams[i].Users = append(a.surfaces.Teams[i].Users, o.userID)
		}
	}
}

// serveUsers answers GET settings/users, /{id}, /roles and /teams. They are not part of 2026-09.
func (s *Server) serveUsers(c *call) *reply {
	if r := c.only(http.MethodGet); r != nil {
		return r
	}
	scope := "settings.users.read"
	if len(c.rest) == 1 && c.rest[0] == "teams" {
		scope = "settings.users.teams.read"
	}
	if r := c.needs(scope); r != nil {
		return r
	}
	switch {
	case len(c.rest) > 1:
		return c.notFound()
	case len(c.rest) == 0:
		return paged(c, 100, 100, s.account.activeOwners, func(o *owner, dst []byte) []byte { return s.account.appendUser(dst, o) })
	case c.rest[0] == "roles":
		return c.answer(http.StatusOK, map[string]any{"results": userRoles})
	case c.rest[0] == "teams":
		return s.listTeams(c)
	}
	out := c.notFound()
	s.account.view(func() {
		for _, o := range s.account.activeOwners() {
			byEmail := c.query.Get("idProperty") == "EMAIL"
			if !byEmail && strconv.FormatInt(o.userID, 10) == c.rest[0] || byEmail && o.email == c.rest[0] {
				out = c.ok()
				out.body = s.account.appendUser(out.body, o)
			}
		}
	})
	return out
}

func (s *Server) listTeams(c *call) *reply {
	out := c.ok()
	s.account.view(func() {
		ids := func(dst []byte, name string, users []int64) []byte {
			texts := []string{}
			for _, id := range users {
				texts = append(texts, strconv.FormatInt(id, 10))
			}
			return appendStrings(appendMember(dst, name), texts)
		}
		out.body = append(out.body, `{"results":[`...)
		for _, t := range s.account.surfaces.Teams {
			out.body = append(appendComma(out.body), '{')
			out.body = appendString(appendMember(out.body, "id"), t.ID)
			out.body = appendString(appendMember(out.body, "name"), t.Name)
			out.body = ids(out.body, "userIds", t.Users)
			out.body = append(ids(out.body, "secondaryUserIds", t.Secondary), '}')
		}
		out.body = append(out.body, ']', '}')
	})
	return out
}

func (a *account) appendUser(dst []byte, o *owner) []byte {
	role := userRoles[o.userID%2].ID
	dst = append(dst, '{')
	dst = appendID(appendMember(dst, "id"), o.userID)
	dst = appendString(appendMember(dst, "email"), o.email)
	dst = appendString(appendMember(dst, "firstName"), o.first)
	dst = appendString(appendMember(dst, "lastName"), o.last)
	dst = appendString(appendMember(dst, "roleId"), role)
	dst = appendStrings(appendMember(dst, "roleIds"), []string{role})
	if len(o.teams) > 0 {
		dst = appendString(appendMember(dst, "primaryTeamId"), o.teams[0].id)
	}
	dst = appendStrings(appendMember(dst, "secondaryTeamIds"), nil)
	return append(appendBool(appendMember(dst, "superAdmin"), o == a.owners[0]), '}')
}

// AddOwner adds a user who may own records.
func (s *Server) AddOwner(email, first, last string) (id int64, err error) {
	s.account.edit(func(now int64) {
		a := s.account
		last64 := slices.MaxFunc(append(a.owners, &owner{id: 81_000_000, userID: 73_000_000}),
			func(x, y *owner) int { return cmp.Compare(x.id, y.id) })
		if slices.ContainsFunc(a.owners, func(o *owner) bool { return o.email == email }) {
			err = fmt.Errorf("%w: owner %s already exists", ErrInvalid, email)
			return
		}
		id = last64.id + 7919
		a.owners = append(a.owners, &owner{
			id: id, userID: last64.userID + 6007, email: email, first: first, last: last, created: now, updated: now,
		})
	})
	return id, err
}

// ArchiveOwner deactivates an owner. Records keep it.
func (s *Server) ArchiveOwner(id int64) error {
	err := fmt.Errorf("owner %d: %w", id, ErrNotFound)
	s.account.edit(func(now int64) {
		for i, o := range s.account.owners {
			if o.id == id && !o.archived {
				gone := *o // readers may hold the old one
				gone.archived, gone.updated, gone.teams = true, now, nil
				s.account.owners[i] = &gone
				err = nil
			}
		}
	})
	return err
}
