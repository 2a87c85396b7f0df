package materialize

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"hubpg/hubapi"
	"hubpg/internal/catalog"
	"hubpg/internal/mirror"
)

// noType stands for the type id in hubpg.absent where a name of the setting objects has none.
const noType = "none"

// UnknownObject is a name in the setting objects that no table of the account can have.
type UnknownObject struct{ Name, Problem, Hint string }

// UnknownObjects returns those of only, which is the setting objects, that are neither a table that every account may have
// nor one of names, which are the account's object types.
func UnknownObjects(only, names []string) []UnknownObject {
	known := slices.Clone(names)
	for _, l := range mirror.Lookups() {
		known = append(known, l.Name)
	}
	known = append(known, mirror.Merges)
	var list []UnknownObject
	for _, name := range only {
		if slices.Contains(known, name) {
			continue
		}
		u := UnknownObject{Name: name, Problem: "the account has no objects of this name, or does not show them"}
		switch near := nearest(name, known); {
		case isPair(name, names):
			u.Problem = "this is no object but an association table"
			u.Hint = "it comes with the tables of its two ends; take it out of the setting objects"
		case switchedOff(name):
			u.Problem = "the account has these objects switched off"
			u.Hint = "switch them on in HubSpot, or take the name out of the setting objects"
		case near != "":
			u.Hint = near + " was probably meant; correct the setting objects"
		default:
			u.Hint = "hubpg plan --objects= lists the names; correct the setting objects"
		}
		list = append(list, u)
	}
	return list
}

// switchedOff says whether HubSpot has a type of the name, which the account then does not.
func switchedOff(name string) bool {
	return slices.ContainsFunc(hubapi.StandardTypes(), func(t hubapi.ObjectType) bool { return t.Searchable && t.Name == name })
}

func isPair(name string, names []string) bool {
	for _, a := range names {
		if b, ok := strings.CutPrefix(name, a+"_"); ok && slices.Contains(names, b) {
			return true
		}
	}
	return false
}

// nearest returns the known name that a typist probably meant, "" if none is near.
func nearest(name string, known []string) string {
	best, least := "", len(name)/3+1
	plain := catalog.Plain(name)
	for _, k := range known {
		if d := distance(plain, k); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance is how many letters have to be added, left out or replaced to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := corner
			if a[i] != b[j] {
				replaced++
			}
			corner = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// showUnknown shows names of the setting objects that the account does not have in hubpg.status, and takes back those
// that it has by now. One that has a table is told of there. While the account does not show its custom objects, a name may
// be one of theirs.
func (s *step) showUnknown(ctx context.Context, types []objectType) error {
	names, err := s.tableNames(ctx)
	if err != nil {
		return err
	}
	var have, shown, problems, hints []string
	for _, t := range types {
		have = append(have, t.def.Name)
	}
	for _, name := range names {
		have = append(have, name)
	}
	for _, u := range UnknownObjects(s.e.cfg.Objects, have) {
		if s.hidden && strings.HasPrefix(u.Hint, "hubpg plan") {
			u.Hint = "if it is a custom object: see custom objects in hubpg.status; else hubpg plan --objects= lists the names"
		}
		shown, problems, hints = append(shown, u.Name), append(problems, u.Problem), append(hints, u.Hint)
	}
	_, err = s.e.cfg.Pool.Exec(ctx, `
with found as (
	delete from hubpg.absent
	where portal_id = $1 and object_type = $2 and table_name <> all ($3))
insert into hubpg.absent (portal_id, table_name, object_type, last_error, hint)
select $1, u.name, $2, u.problem, u.hint
from unnest($3::text[], $4::text[], $5::text[]) as u (name, problem, hint)
on conflict (portal_id, table_name) do update
set last_error = excluded.last_error, hint = excluded.hint
where absent.object_type = $2`, s.args.Portal, noType, append([]string{}, shown...), problems, hints)
	if err != nil {
		return fmt.Errorf("show unknown names: %w", err)
	}
	return nil
}
