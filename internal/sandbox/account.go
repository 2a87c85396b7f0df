package sandbox

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// never is later than any instant.
const never = math.MaxInt64

// account is the whole state of the simulated account. Readers hold mu shared for as long as they
// render a response, which is some milliseconds at most; a search that must scan a large table is the
// exception.
type account struct {
	cfg Config

	// nextDue is when something is to be settled (epoch ms): a lagging index entry, a second bump.
	nextDue atomic.Int64

	mu        sync.RWMutex // guards below
	tables    []*table
	byPath    map[string]*table
	links     *links
	owners    []*owner
	pipelines map[string][]*pipeline // by type id
	seq       uint64
	bumps     bumpQueue
	rng       *rand.Rand // spontaneous changes
	changes   int64
	lastType  int // number of the last custom type
	surfaces  surfaces

	watch  func(event)  // told of every change, with mu held; nil while seeding
	muted  int          // positive while changes are part of another one
	origin changeOrigin // whose changes these are
}

// staff is the origin of changes made by people in the account.
var staff = changeOrigin{"CRM_UI", "userId:73000000"}

func newAccount(cfg Config) *account {
	a := &account{
		cfg:       cfg,
		byPath:    map[string]*table{},
		links:     newLinks(),
		pipelines: map[string][]*pipeline{},
		rng:       rand.New(rand.NewPCG(uint64(cfg.Seed), 0x68756270)),
		lastType:  143967025,
		origin:    staff,
	}
	a.links.changed = a.linkChanged
	a.nextDue.Store(never)
	return a
}

func nowMS() int64 { return time.Now().UnixMilli() }

// addTable adds an object type under all the path segments it answers to.
func (a *account) addTable(t *table) {
	a.tables = append(a.tables, t)
	k := t.kind
	for _, path := range []string{k.typeID, k.fqn, k.name, k.singular, k.alias} {
		if path == "" || a.byPath[path] != nil {
			continue // a standard type keeps its name
		}
		a.byPath[path] = t
	}
	if k.custom {
		a.byPath["p_"+k.name] = t
	}
}

// table finds an object type by plural, singular, fully qualified name or type id.
func (a *account) table(path string) *table {
	if t := a.byPath[path]; t != nil {
		return t
	}
	return a.byPath[strings.ToLower(path)]
}

// view runs fn with the account readable and everything due settled.
func (a *account) view(fn func()) {
	if a.nextDue.Load() <= nowMS() {
		a.edit(func(int64) {})
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	fn()
}

// edit runs fn with the account writable; fn gets the present in epoch ms.
func (a *account) edit(fn func(now int64)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := nowMS()
	a.settle(now)
	fn(now)
	a.settle(now)
}

// settle applies what is due by now.
func (a *account) settle(now int64) {
	if a.nextDue.Load() > now {
		return
	}
	next := int64(never)
	for len(a.bumps) > 0 {
		b := a.bumps[0]
		if b.due > now {
			next = b.due
			break
		}
		heap.Pop(&a.bumps)
		if e := b.t.entries[b.id]; e != nil && e.cur.archived == 0 {
			a.replace(b.t, e, e.cur.data, max(b.due, e.cur.updated), b.due)
		}
	}
	for _, t := range a.tables {
		next = min(next, t.index.settle(now), a.purge(t, now))
	}
	a.nextDue.Store(next)
}

// replace gives e a new version with these packed values, indexed once the lag has passed.
func (a *account) replace(t *table, e *entry, data []byte, updated, now int64) {
	a.seq++
	r := &record{id: e.id, created: e.cur.created, updated: updated, archived: e.cur.archived, seq: a.seq, data: data}
	t.release(e.cur)
	e.cur = r
	if r.archived == 0 {
		t.claim(r)
		a.enqueue(t, e, now)
		a.sortIntoSegments(t, e, now)
	}
}

// enqueue sends e's present version on its way into the search index.
func (a *account) enqueue(t *table, e *entry, now int64) {
	lag := a.cfg.IndexLag.Milliseconds()
	if lag <= 0 {
		t.index.show(e, e.cur)
		return
	}
	if a.cfg.Disorder {
		lag = lag/4 + int64(mix(e.cur.seq)%uint64(lag*3/4+1))
	}
	heap.Push(&t.index.lagging, lagged{due: now + lag, e: e, r: e.cur})
	a.due(now + lag)
}

func (a *account) due(at int64) {
	if at < a.nextDue.Load() {
		a.nextDue.Store(at)
	}
}

// change is a new value for a slot; a nil text unsets it.
type change struct {
	p    *property
	text []byte
}

// set writes values to e. The modified time moves to now unless quiet.
func (a *account) set(t *table, e *entry, cs []change, quiet bool, now int64, source string) {
	values := make([][]byte, len(t.slots))
	unpack(e.cur.data, values)
	var changed []change
	for _, c := range cs {
		if c.p.from != stored {
			continue
		}
		if old := values[c.p.slot]; string(old) != string(c.text) || (old == nil) != (c.text == nil) {
			if e.trail == nil {
				e.trail = &trail{}
			}
			var was *pastValue
			if old != nil {
				was = &pastValue{text: string(old), at: e.cur.created, source: "CRM_UI"}
			}
			e.trail.add(c.p.slot, was, pastValue{text: string(c.text), at: now, source: source})
			changed = append(changed, c)
		}
		values[c.p.slot] = c.text
	}
	updated := e.cur.updated
	if !quiet {
		updated = max(now, updated)
	}
	a.replace(t, e, pack(values), updated, now)
	if len(changed) > 0 {
		ev := event{kind: recordChanged, at: now, t: t, id: e.id, values: changed}
		if quiet {
			ev.source = source
		}
		a.happened(ev)
	}
}

// insert creates a record with a new id.
func (a *account) insert(t *table, cs []change, now int64) *entry {
	values := make([][]byte, len(t.slots))
	for _, c := range cs {
		if c.p.from == stored {
			values[c.p.slot] = c.text
		}
	}
	id := a.nextID(t)
	a.seq++
	e := &entry{id: id, cur: &record{id: id, created: now, updated: now, seq: a.seq, data: pack(values)}}
	t.entries[id] = e
	t.live.insert(e)
	t.claim(e.cur)
	a.enqueue(t, e, now)
	if b := a.cfg.SecondBump.Milliseconds(); b > 0 {
		heap.Push(&a.bumps, bump{due: now + b, t: t, id: id})
		a.due(now + b)
	}
	a.happened(event{kind: recordCreated, at: now, t: t, id: id, values: cs})
	a.sortIntoSegments(t, e, now)
	return e
}

// nextID continues a table's ids, ascending with gaps.
func (a *account) nextID(t *table) int64 {
	if t.lastID == 0 {
		t.lastID = firstID(a.cfg.Seed, t.kind.typeID)
	}
	t.lastID += 1 + int64(mix(uint64(a.cfg.Seed)^uint64(t.lastID))%97)
	return t.lastID
}

// archive moves e to the archive. The modified time stays.
func (a *account) archive(t *table, e *entry, now int64) {
	if e.cur.archived != 0 {
		return
	}
	t.release(e.cur)
	r := *e.cur
	a.seq++
	r.archived, r.seq = now, a.seq
	e.cur = &r
	t.live.remove(e)
	t.gone.insert(e)
	t.index.hide(e)
	t.purgeAt = min(t.purgeAt, now+a.cfg.ArchiveLife.Milliseconds())
	a.due(t.purgeAt)
	a.leaveSegments(t, e.id)
	a.happened(event{kind: recordDeleted, at: now, t: t, id: e.id})
}

// restore brings e back from the archive. The modified time stays.
func (a *account) restore(t *table, e *entry, now int64) {
	if e.cur.archived == 0 {
		return
	}
	r := *e.cur
	a.seq++
	r.archived, r.seq = 0, a.seq
	e.cur = &r
	t.gone.remove(e)
	t.live.insert(e)
	t.claim(&r)
	a.enqueue(t, e, now)
	a.happened(event{kind: recordRestored, at: now, t: t, id: e.id})
	a.sortIntoSegments(t, e, now)
}

// erase forgets e: no archive, no associations.
func (a *account) erase(t *table, e *entry) {
	if e.cur.archived == 0 {
		a.happened(event{kind: recordDeleted, t: t, id: e.id})
	}
	a.happened(event{kind: recordErased, t: t, id: e.id})
	a.silently(func() { a.drop(t, e) })
}

// drop takes everything of e out of the account.
func (a *account) drop(t *table, e *entry) {
	a.leaveSegments(t, e.id)
	if e.cur.archived == 0 {
		t.release(e.cur)
		t.live.remove(e)
	} else {
		t.gone.remove(e)
	}
	t.index.hide(e)
	delete(t.entries, e.id)
	a.links.forget(t, e.id)
	r := *e.cur
	r.archived = max(1, r.archived) // a lagging index entry of it must not show
	e.cur = &r
}

// bump is a second change of a new record's modified time.
type bump struct {
	due int64
	t   *table
	id  int64
}

type bumpQueue []bump

func (q bumpQueue) Len() int           { return len(q) }
func (q bumpQueue) Less(i, j int) bool { return q[i].due < q[j].due }
func (q bumpQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *bumpQueue) Push(v any)        { *q = append(*q, v.(bump)) }
func (q *bumpQueue) Pop() any {
	old := *q
	v := old[len(old)-1]
	*q = old[:len(old)-1]
	return v
}

// mix is a bijective hash (splitmix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// firstID is where the ids of a type begin: twelve digits.
func firstID(seed int64, typeID string) int64 {
	return 100_000_000_000 + int64(mix(uint64(seed)^uniqueKey(typeID))%800_000_000)*1000
}
