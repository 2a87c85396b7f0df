package changes

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxChannel is the longest identifier that Postgres keeps (NAMEDATALEN - 1); LISTEN cuts a longer one, so the
// ringing side has to cut alike.
const maxChannel = 63

// Channel names the channel of a schema, of one of its tables, or of one column of that table: hubspot,
// hubspot_deals, hubspot_deals.dealstage. Names over 63 bytes are cut as Postgres cuts identifiers.
func Channel(schema, table, column string) string {
	name := schema
	if table != "" {
		name += "_" + table
	}
	if column != "" {
		name += "." + column
	}
	return cut(name)
}

// Channels lists every channel on which c rings: the schema's, the table's, and one for each changed column.
func (c *Change) Channels() []string {
	list := make([]string, 0, 2+len(c.Changed))
	list = append(list, Channel(c.Schema, "", ""), Channel(c.Schema, c.Table, ""))
	for _, column := range c.Changed {
		list = append(list, Channel(c.Schema, c.Table, column))
	}
	return list
}

// Subscription is what a client's LISTEN asks for.
type Subscription struct {
	Channel string // without the replay mark
	Name    string // as the client wrote it: notifications are delivered under this name
	Replay  bool   // deliver the log after After first, then go live
	After   int64
}

// ParseChannel reads the channel of a LISTEN (already unquoted and case-folded by the rules of SQL). It reports
// false for every channel that does not belong to one of schemas: such a channel is Postgres's own affair.
// A trailing @seq asks for replay.
func ParseChannel(name string, schemas []string) (Subscription, bool) {
	s := Subscription{Channel: name, Name: name}
	if base, seq, found := strings.Cut(name, "@"); found {
		after, err := strconv.ParseInt(seq, 10, 64)
		if err != nil || after < 0 {
			return Subscription{}, false
		}
		s.Channel, s.Replay, s.After = base, true, after
	}
	s.Channel = cut(s.Channel)
	for _, schema := range schemas {
		if s.Channel == schema || strings.HasPrefix(s.Channel, schema+"_") {
			return s, true
		}
	}
	return Subscription{}, false
}

func cut(name string) string {
	if len(name) <= maxChannel {
		return name
	}
	end := maxChannel
	for end > 0 && !utf8.RuneStart(name[end]) {
		end--
	}
	return name[:end]
}
