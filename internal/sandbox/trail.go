package sandbox

// trailMax is how many entries of history a property keeps.
const trailMax = 20

// trail is the history of one record's values, newest first per slot.
type trail struct {
	bySlot map[int][]pastValue
}

type pastValue struct {
	text   string
	at     int64 // epoch ms
	source string
}

// add remembers that slot got text at ms; was is the value before, given when the trail has none yet.
func (t *trail) add(slot int, was *pastValue, now pastValue) {
	if t.bySlot == nil {
		t.bySlot = map[int][]pastValue{}
	}
	h := t.bySlot[slot]
	if h == nil && was != nil {
		h = []pastValue{*was}
	}
	h = append([]pastValue{now}, h...)
	t.bySlot[slot] = h[:min(len(h), trailMax)]
}
