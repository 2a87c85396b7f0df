package sandbox

import "strconv"

// gen makes the values of one record. Its numbers depend only on the seed, the type and the record's
// position, so records can be made in any order.
type gen struct {
	x       uint64
	i       int // position in the type
	created int64
	updated int64
	buf     []byte

	first, last     string // a person
	company, domain string // a company
	city            int    // index into cities
	stage           *stage
	pipeline        *pipeline
	linked          int64 // id of the primary company, 0 for none
	linkedCount     int
	owners          []*owner
	amount          int
}

func (g *gen) reset(seed int64, typeID uint64, i int) {
	g.x = mix(uint64(seed)) ^ mix(typeID) ^ mix(uint64(i)*0x9e37+1)
	g.i = i
}

func (g *gen) next() uint64 {
	g.x += 0x9e3779b97f4a7c15
	x := g.x
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// n is a number from 0 up to but not including k.
func (g *gen) n(k int) int { return int(g.next() >> 33 % uint64(k)) }

func (g *gen) chance(percent int) bool { return g.n(100) < percent }

func (g *gen) pick(words []string) string { return words[g.n(len(words))] }

// text returns its arguments as one value.
func (g *gen) text(parts ...string) []byte {
	g.buf = g.buf[:0]
	for _, p := range parts {
		g.buf = append(g.buf, p...)
	}
	return g.buf
}

func (g *gen) integer(n int64) []byte {
	g.buf = strconv.AppendInt(g.buf[:0], n, 10)
	return g.buf
}

// cents is n hundredths, as HubSpot prints amounts.
func (g *gen) cents(n int) []byte {
	g.buf = strconv.AppendInt(g.buf[:0], int64(n/100), 10)
	if n%100 != 0 {
		g.buf = append(g.buf, '.')
		g.buf = appendPadded(g.buf, n%100, 2)
	}
	return g.buf
}

func (g *gen) boolean(b bool) []byte {
	g.buf = strconv.AppendBool(g.buf[:0], b)
	return g.buf
}

// between is an instant between two.
func (g *gen) between(from, to int64) int64 {
	if to <= from {
		return from
	}
	return from + int64(g.next()%uint64(to-from))
}

// instant is a datetime in the record's life; day a date.
func (g *gen) instant() []byte {
	g.buf = appendInstant(g.buf[:0], g.between(g.created, g.updated))
	return g.buf
}

func (g *gen) day() []byte {
	g.buf = appendDay(g.buf[:0], g.between(g.created, g.updated))
	return g.buf
}

// sentence is some words.
func (g *gen) sentence(words int) []byte {
	g.buf = g.buf[:0]
	for k := range words {
		if k > 0 {
			g.buf = append(g.buf, ' ')
		}
		g.buf = append(g.buf, loremWords[g.n(len(loremWords))]...)
	}
	return g.buf
}

func (g *gen) phone() []byte {
	g.buf = append(g.buf[:0], '+', '1', ' ')
	g.buf = appendPadded(g.buf, 201+g.n(780), 3)
	g.buf = append(g.buf, "-555-"...)
	g.buf = appendPadded(g.buf, g.n(10_000), 4)
	return g.buf
}

func (g *gen) owner() []byte { return g.integer(g.owners[g.n(len(g.owners))].id) }

// person chooses a name, company chooses one by number.
func (g *gen) person() {
	g.first, g.last = g.pick(firstNames), g.pick(lastNames)
}

func (g *gen) nameCompany(n int) {
	h := mix(uint64(n) + 77)
	g.company = companyHeads[h%uint64(len(companyHeads))] + " " + companyTails[h>>16%uint64(len(companyTails))]
	g.domain = companyDomain(n)
}

// companyDomain is unique per number.
func companyDomain(n int) string {
	h := mix(uint64(n) + 77)
	head := companyHeads[h%uint64(len(companyHeads))]
	b := make([]byte, 0, 32)
	for i := range len(head) {
		if c := head[i]; c >= 'A' && c <= 'Z' {
			b = append(b, c+32)
		} else if c >= 'a' && c <= 'z' {
			b = append(b, c)
		}
	}
	b = append(b, '-')
	b = strconv.AppendInt(b, int64(n), 36)
	return string(append(b, ".example.com"...))
}
