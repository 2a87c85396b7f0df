package sandbox

import (
	"net/http"
	"slices"
	"time"
)

// serveAccount answers account-info, limits and object-library.
func (s *Server) serveAccount(c *call) *reply {
	if r := c.only(http.MethodGet); r != nil {
		return r
	}
	if c.family == "account" {
		if r := c.needs("oauth"); r != nil {
			return r
		}
	}
	rest := c.rest
	switch {
	case c.family == "account" && slices.Equal(rest, []string{"details"}):
		return s.accountDetails(c)
	case c.family == "account" && slices.Equal(rest, []string{"api-usage", "daily", "private-apps"}):
		return s.dailyUsage(c)
	case c.family == "limits" && slices.Equal(rest, []string{"records"}):
		return s.recordLimits(c)
	case c.family == "object-library" && slices.Equal(rest, []string{"enablement"}):
		return s.enablement(c)
	default:
		return c.notFound()
	}
}

func (s *Server) accountDetails(c *call) *reply {
	now := time.Now().In(s.zone)
	_, offset := now.Zone()
	out := c.ok()
	b := append(out.body, '{')
	b = appendInt(appendMember(b, "portalId"), s.cfg.PortalID)
	b = appendString(appendMember(b, "accountType"), "STANDARD")
	b = appendString(appendMember(b, "timeZone"), accountZone)
	b = appendString(appendMember(b, "companyCurrency"), "USD")
	b = appendStrings(appendMember(b, "additionalCurrencies"), []string{"EUR"})
	b = appendString(appendMember(b, "utcOffset"), now.Format("-07:00"))
	b = appendInt(appendMember(b, "utcOffsetMilliseconds"), int64(offset)*1000)
	b = appendString(appendMember(b, "uiDomain"), "app.hubspot.com")
	b = appendString(appendMember(b, "dataHostingLocation"), "na1")
	out.body = append(b, '}')
	return out
}

func (s *Server) dailyUsage(c *call) *reply {
	n, resets := s.limiter.used()
	out := c.ok()
	b := append(out.body, `{"results":[{`...)
	b = appendString(appendMember(b, "name"), "private-apps-api-calls-daily")
	b = appendInt(appendMember(b, "usageLimit"), int64(s.limiter.quota.daily))
	b = appendInt(appendMember(b, "currentUsage"), int64(n))
	b = appendTime(appendMember(b, "collectedAt"), nowMS())
	b = appendString(appendMember(b, "fetchStatus"), "SUCCESS")
	b = appendTime(appendMember(b, "resetsAt"), resets.UnixMilli())
	out.body = append(b, "}]}"...)
	return out
}

// recordLimits tells how many live records each type has.
func (s *Server) recordLimits(c *call) *reply {
	const typeLimit, customLimit = 15_000_000, 2_000_000
	out := c.ok()
	s.account.view(func() {
		b := append(out.body, `{"hubspotDefinedObjectTypes":[`...)
		custom, used := []byte(nil), 0
		for _, t := range s.account.tables {
			n := t.live.len()
			if t.kind.custom {
				if len(custom) > 0 {
					custom = append(custom, ',')
				}
				custom = append(custom, '{')
				custom = appendString(appendMember(custom, "objectTypeId"), t.kind.typeID)
				custom = append(appendInt(appendMember(custom, "usage"), int64(n)), '}')
				used += n
				continue
			}
			if t.kind.inactive {
				continue
			}
			b = append(appendComma(b), '{')
			b = appendString(appendMember(b, "objectTypeId"), t.kind.typeID)
			b = appendString(appendMember(b, "singularLabel"), t.kind.label)
			b = appendString(appendMember(b, "pluralLabel"), t.kind.plural)
			b = appendInt(appendMember(b, "usage"), int64(n))
			b = appendInt(appendMember(b, "limit"), typeLimit)
			b = appendInt(appendMember(b, "percentage"), int64(n)*100/typeLimit)
			b = append(b, '}')
		}
		b = append(b, `],"customObjectTypes":{`...)
		b = appendInt(appendMember(b, "overallUsage"), int64(used))
		b = appendInt(appendMember(b, "overallLimit"), customLimit)
		b = append(appendMember(b, "byObjectType"), '[')
		b = append(b, custom...)
		out.body = append(b, "]}}"...)
	})
	return out
}

// enablement lists the types that can be activated, never contacts, companies, deals and tickets.
func (s *Server) enablement(c *call) *reply {
	out := c.ok()
	s.account.view(func() {
		b := append(out.body, `{"enablementByObjectTypeId":{`...)
		for _, t := range s.account.tables {
			if t.kind.activatable {
				b = appendBool(appendMember(b, t.kind.typeID), !t.kind.inactive)
			}
		}
		out.body = append(b, '}', '}')
	})
	return out
}
