package sandbox

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
)

const (
	maxEmailPage    = 100
	maxCampaignPage = 100
)

// marketingEmail is an email to many. Its members are exported for [Server.Save].
type marketingEmail struct {
	ID                                   int64
	Name, Subject, State, Type, Campaign string
	Created, Updated, Published          int64
	Archived                             bool
	Sent, Delivered, Open, Click, Unsub  int64
	NoStats                              bool // includeStats leaves it out, as HubSpot does with some
}

// campaign groups marketing assets. Its members are exported for [Server.Save].
type campaign struct {
	ID               string
	Properties       [][2]string // by name
	Created, Updated int64
}

func (a *account) seedMarketing(now int64) {
	const day = 86_400_000
	for i, name := range []string{"Spring service week", "Spare parts relaunch", "Trade fair Hannover", "Winter check"} {
		created := now - int64(600-90*i)*day
		a.surfaces.Campaigns = append(a.surfaces.Campaigns, &campaign{
			ID: guid(a.cfg.Seed, "campaign", i), Created: created, Updated: created + 20*day,
			Properties: [][2]string{
				{"hs_budget_items_sum_amount", string(appendInt(nil, int64(1000+500*i)))},
				{"hs_campaign_status", []string{"planned", "in_progress", "active", "completed"}[i]},
				{"hs_name", name},
				{"hs_start_date", string(appendDay(nil, created+10*day))},
			},
		})
	}
	subjects := []string{"Your machines before the season", "New: spare parts within a day", "Meet us", "Is your service due?"}
	for i := range 26 {
		created := now - int64(500-15*i)*day
		e := &marketingEmail{
			ID: 150_000_000_000 + int64(mix(uint64(a.cfg.Seed)+uint64(i))%1_000_000_000), Name: "Mailing " + string(appendPadded(nil, i+1, 2)),
			Subject: subjects[i%4], State: "PUBLISHED", Type: "BATCH_EMAIL", Created: created, Updated: created + int64(i%5)*day,
			Published: created + day, Archived: i%13 == 12, NoStats: i%9 == 4,
		}
		if i%6 == 5 {
			e.State, e.Published = "DRAFT", 0
		} else {
			e.Campaign = a.surfaces.Campaigns[i%4].ID
			e.Sent = 400 + int64(i)*10
			e.Delivered, e.Open, e.Click, e.Unsub = e.Sent-9, e.Sent/3, e.Sent/12, int64(i%4)
		}
		a.surfaces.Emails = append(a.surfaces.Emails, e)
	}
}

// sortKeys are what a marketing list may be sorted by, as a query parameter sort=[-]name.
func sortKeys[T any](c *call, keys map[string]func(T) int64) (func(a, b T) int, *reply) {
	v := c.query.Get("sort")
	if v == "" {
		return nil, nil
	}
	name, desc := strings.CutPrefix(v, "-")
	key := keys[name]
	if key == nil {
		return nil, c.invalidParameter("sort", v)
	}
	return func(a, b T) int {
		if desc {
			a, b = b, a
		}
		return cmp.Compare(key(a), key(b))
	}, nil
}

func ordered[T any](all []T, order func(a, b T) int) []T {
	if order != nil {
		slices.SortStableFunc(all, order)
	}
	return all
}

// instant reads a query parameter that is a time; unset is given when it is absent.
func (c *call) instant(name string, unset int64) (int64, *reply) {
	v := c.query.Get(name)
	if v == "" {
		return unset, nil
	}
	ms, ok := parseInstant(v)
	if !ok {
		return 0, c.invalidParameter(name, v)
	}
	return ms, nil
}

// serveEmails answers GET marketing emails and GET emails/{id}.
func (s *Server) serveEmails(c *call) *reply {
	if r := c.only(http.MethodGet); r != nil {
		return r
	}
	if r := c.needs("content"); r != nil {
		return r
	}
	archived, r := c.flag("archived")
	if r != nil {
		return r
	}
	stats, r := c.flag("includeStats")
	if r != nil {
		return r
	}
	render := func(e *marketingEmail, dst []byte) []byte { return e.append(dst, stats) }
	if len(c.rest) == 1 {
		out := c.notFound()
		s.account.view(func() {
			for _, e := range s.account.surfaces.Emails {
				if e.ID == (loose{text: c.rest[0]}).id() && e.Archived == archived {
					out = c.ok()
					out.body = render(e, out.body)
				}
			}
		})
		return out
	}
	if len(c.rest) > 0 {
		return c.notFound()
	}
	order, r := sortKeys(c, map[string]func(*marketingEmail) int64{
		"createdAt": func(e *marketingEmail) int64 { return e.Created },
		"updatedAt": func(e *marketingEmail) int64 { return e.Updated },
		"id":        func(e *marketingEmail) int64 { return e.ID },
	})
	if r != nil {
		return r
	}
	var bounds [4]int64
	for i, name := range []string{"updatedAfter", "createdAfter", "updatedBefore", "createdBefore"} {
		if bounds[i], r = c.instant(name, map[bool]int64{true: -1, false: never}[i < 2]); r != nil {
			return r
		}
	}
	return paged(c, maxEmailPage, 10, func() []*marketingEmail {
		return ordered(filtered(s.account.surfaces.Emails, func(e *marketingEmail) bool {
			return e.Archived == archived && (!stats || !e.NoStats) &&
				e.Updated > bounds[0] && e.Created > bounds[1] && e.Updated < bounds[2] && e.Created < bounds[3]
		}), order)
	}, render)
}

func (e *marketingEmail) append(dst []byte, stats bool) []byte {
	dst = append(dst, '{')
	dst = appendID(appendMember(dst, "id"), e.ID)
	dst = appendString(appendMember(dst, "name"), e.Name)
	dst = appendString(appendMember(dst, "subject"), e.Subject)
	dst = appendString(appendMember(dst, "state"), e.State)
	dst = appendString(appendMember(dst, "type"), e.Type)
	dst = appendBool(appendMember(dst, "isPublished"), e.Published != 0)
	if e.Campaign != "" {
		dst = appendString(appendMember(dst, "campaign"), e.Campaign)
	}
	dst = appendTime(appendMember(dst, "createdAt"), e.Created)
	dst = appendTime(appendMember(dst, "updatedAt"), e.Updated)
	if e.Published != 0 {
		dst = appendTime(appendMember(dst, "publishDate"), e.Published)
	}
	dst = appendBool(appendMember(dst, "archived"), e.Archived)
	if stats {
		dst = append(appendMember(dst, "stats"), `{"counters":{`...)
		dst = appendInt(appendMember(dst, "sent"), e.Sent)
		dst = appendInt(appendMember(dst, "delivered"), e.Delivered)
		dst = appendInt(appendMember(dst, "open"), e.Open)
		dst = appendInt(appendMember(dst, "click"), e.Click)
		dst = append(appendInt(appendMember(dst, "unsubscribed"), e.Unsub), '}', '}')
	}
	return append(dst, '}')
}

// serveCampaigns answers GET campaigns and GET campaigns/{id}. Properties are shown when asked for.
func (s *Server) serveCampaigns(c *call) *reply {
	if r := c.only(http.MethodGet); r != nil {
		return r
	}
	if r := c.needs("marketing.campaigns.read"); r != nil {
		return r
	}
	names := c.list("properties")
	var forbidden []string
	for _, name := range names {
		if name == "id" || name == "createdAt" || name == "updatedAt" {
			forbidden = append(forbidden, name)
		}
	}
	if len(forbidden) > 0 {
		return c.invalid("Forbidden properties: [" + strings.Join(forbidden, ", ") + "]")
	}
	render := func(g *campaign, dst []byte) []byte { return g.append(dst, names) }
	if len(c.rest) == 1 {
		out := c.notFound()
		s.account.view(func() {
			for _, g := range s.account.surfaces.Campaigns {
				if g.ID == c.rest[0] {
					out = c.ok()
					out.body = render(g, out.body)
				}
			}
		})
		return out
	}
	if len(c.rest) > 0 {
		return c.notFound()
	}
	order, r := sortKeys(c, map[string]func(*campaign) int64{
		"createdAt": func(g *campaign) int64 { return g.Created },
		"updatedAt": func(g *campaign) int64 { return g.Updated },
	})
	if r != nil {
		return r
	}
	return paged(c, maxCampaignPage, 50, func() []*campaign {
		return ordered(slices.Clone(s.account.surfaces.Campaigns), order)
	}, render)
}

func (g *campaign) append(dst []byte, names []string) []byte {
	dst = append(dst, '{')
	dst = appendString(appendMember(dst, "id"), g.ID)
	dst = append(appendMember(dst, "properties"), '{')
	for _, p := range g.Properties {
		if slices.Contains(names, p[0]) {
			dst = appendString(appendMember(dst, p[0]), p[1])
		}
	}
	dst = append(dst, '}')
	dst = appendTime(appendMember(dst, "createdAt"), g.Created)
	dst = appendTime(appendMember(dst, "updatedAt"), g.Updated)
	return append(appendMember(dst, "businessUnits"), `[{"id":0}]}`...)
}
