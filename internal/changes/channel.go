package changes

import (
	"errors"
	"fmt"
	"slices"
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

// ErrReplay says that what follows the @ of a channel is not a place in the log.
var ErrReplay = errors.New("not the number of a change")

// ParseChannel reads the channel of a LISTEN (already unquoted and case-folded by the rules of SQL). It reports
// false for every channel that does not belong to one of schemas: such a channel is Postgres's own affair.
// A trailing @seq asks for replay; a channel of ours with anything else behind the @ is [ErrReplay].
func ParseChannel(name string, schemas []string) (s Subscription, ours bool, err error) {
	base, seq, replay := strings.Cut(name, "@")
	s = Subscription{Channel: cut(base), Name: name, Replay: replay}
	ours = slices.ContainsFunc(schemas, func(schema string) bool {
		return s.Channel == schema || strings.HasPrefix(s.Channel, schema+"_")
	})
	if !ours {
		return Subscription{}, false, nil
	}
	if replay {
		if s.After, err = strconv.ParseInt(seq, 10, 64); err != nil || s.After < 0 || seq[0] == '+' {
			return Subscription{}, true, fmt.Errorf("channel %q: %q is %w", name, seq, ErrReplay)
		}
	}
	return s, true, nil
}

// MayBeCut reports whether a channel may stand for longer ones, which were cut.
func MayBeCut(channel string) bool { return len(channel) > maxChannel-utf8.UTFMax }

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
