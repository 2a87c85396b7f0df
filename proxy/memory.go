package proxy

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"hubpg/internal/pgwire"
)

// What holding a statement takes, in times its length: the message itself, its text, and what is sent to Postgres for the
// rehearsal and for the performance; of captured rows, them, the answers to them, and those on their way to Postgres; of an
// answer of Postgres, it, and twice while it is on its way to the client.
const (
	copiesOfStatement = 4
	copiesOfRows      = 3
	copiesOfAnswer    = 3
)

// unmetered is how much of each kind a session holds without being counted: about what one that holds nothing has in
// buffers anyway.
const unmetered = pgwire.MaxTake

var (
	errMemoryBeyond = errors.New("more than there is for all sessions")
	errMemoryFull   = errors.New("none became free in time")
	errMemorySlow   = errors.New("others waited for it, and the statement did not come to its end")
)

// memory counts what all sessions together hold of statements, their rows and answers, as far as these must be held
// whole. It is asked before anything is allocated. Safe for concurrent use.
type memory struct {
	size int64

	mu    sync.Mutex // guards below
	used  int64
	kept  int64 // of used: for longer than a statement takes
	queue []*waiter
	slow  []*arrival // messages that are held and not yet there to their end, the oldest first
}

// arrival is a message on its way into the memory that it has. Its client may be slow, or no longer there: when others wait, it
// has to give way after a time.
type arrival struct {
	until   time.Time
	giveWay func() // has its reading fail
	given   bool
}

// waiter waits for its bytes, in the order of the queue.
type waiter struct {
	bytes int64
	ready chan struct{} // closed when they are its own
}

// free takes bytes if there are as many and nobody waits for some.
func (m *memory) free(bytes int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.queue) > 0 || m.used+bytes > m.size {
		return false
	}
	m.used += bytes
	return true
}

// await takes bytes when those that wait already have theirs, within that time.
func (m *memory) await(ctx context.Context, bytes int64, within time.Duration) error {
	if bytes > m.size {
		return errMemoryBeyond
	}
	m.mu.Lock()
	w := &waiter{bytes: bytes, ready: make(chan struct{})}
	m.queue = append(m.queue, w)
	m.serve()
	m.mu.Unlock()
	timer, look := time.NewTimer(within), time.NewTicker(max(min(within/10, time.Second), time.Millisecond))
	defer timer.Stop()
	defer look.Stop()
	var err error
	for err == nil {
		select {
		case <-w.ready:
			return nil
		case <-look.C:
			m.hurry()
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-timer.C:
			err = errMemoryFull
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := slices.Index(m.queue, w); i >= 0 {
		m.queue = slices.Delete(m.queue, i, i+1)
		m.serve() // those behind may want less
		return err
	}
	return nil // they came at the last moment
}

// take takes bytes if there are as many, whoever waits: who asks has a transaction open, or wants little. What is kept
// leaves half of all to the statements that come and go.
func (m *memory) take(bytes int64, keep bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.used+bytes > m.size || keep && m.kept+bytes > m.size/2 {
		return false
	}
	m.used += bytes
	if keep {
		m.kept += bytes
	}
	return true
}

func (m *memory) giveBack(bytes int64, kept bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used -= bytes
	if kept {
		m.kept -= bytes
	}
	m.serve()
}

// serve lets those at the head of the queue have what is free. mu is held.
func (m *memory) serve() {
	for len(m.queue) > 0 && m.used+m.queue[0].bytes <= m.size {
		w := m.queue[0]
		m.queue = slices.Delete(m.queue, 0, 1)
		m.used += w.bytes
		close(w.ready)
	}
}

// arrives notes a message on its way; giveWay is called if others wait after so long.
func (m *memory) arrives(within time.Duration, giveWay func()) *arrival {
	a := &arrival{until: time.Now().Add(within), giveWay: giveWay}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.slow = append(m.slow, a)
	return a
}

// arrived notes that a message is there, or never will be, and reports whether it had to give way.
func (m *memory) arrived(a *arrival) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := slices.Index(m.slow, a); i >= 0 {
		m.slow = slices.Delete(m.slow, i, i+1)
	}
	return a.given
}

// hurry has the message give way that has had the most time, if its time is over.
func (m *memory) hurry() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.slow) > 0 && time.Now().After(m.slow[0].until) {
		a := m.slow[0]
		m.slow = m.slow[1:]
		a.given = true
		a.giveWay()
	}
}

// state is what is held now, and by how many more is waited for.
func (m *memory) state() (used int64, waiting int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used, len(m.queue)
}

// holding is the part of memory that one thing in one session has. It belongs to one goroutine.
type holding struct {
	memory *memory
	keep   bool
	bytes  int64
}

// holdingStep is what holdings grow and shrink by, so that what grows little by little does not ask each time.
const holdingStep = 256 << 10

// await makes an empty holding one of bytes, waiting for them.
func (h *holding) await(ctx context.Context, bytes int64, within time.Duration) error {
	err := h.memory.await(ctx, bytes, within)
	if err == nil {
		h.bytes = bytes
	}
	return err
}

// grow makes the holding one of bytes, if it is less, and reports whether it could.
func (h *holding) grow(bytes int64) bool {
	if bytes <= unmetered || bytes <= h.bytes {
		return true
	}
	more := (bytes - h.bytes + holdingStep - 1) / holdingStep * holdingStep
	if !h.memory.take(more, h.keep) {
		return false
	}
	h.bytes += more
	return true
}

// shrink makes the holding one of bytes, if it is much more.
func (h *holding) shrink(bytes int64) {
	if bytes <= unmetered {
		h.release()
	} else if less := (h.bytes - bytes) / holdingStep * holdingStep; less > 0 {
		h.memory.giveBack(less, h.keep)
		h.bytes -= less
	}
}

// release gives all of it back.
func (h *holding) release() {
	if h.bytes > 0 {
		h.memory.giveBack(h.bytes, h.keep)
		h.bytes = 0
	}
}

// errMemory words that a statement cannot be held. It is retryable unless there will never be enough.
func errMemory(err error) *pgwire.Error {
	switch {
	case errors.Is(err, errMemoryBeyond):
		// 54000, program_limit_exceeded: a repetition would fail as well.
		return failure("54000", "the statement is longer than hubpg may hold", "",
			"Split it, send its data by COPY, or raise proxy.statement_memory.")
	case errors.Is(err, errCanceled):
		return failure("57014", "canceling statement due to user request", "", "")
	}
	message := "hubpg holds as many long statements as it may"
	if errors.Is(err, errMemorySlow) {
		message = "the statement came too slowly while others waited to be held"
	}
	// 53200, out_of_memory: of the class insufficient resources, which drivers and people take for a matter of the moment.
	// 54000 would say that the statement is at fault.
	return failure("53200", message, "",
		"Repeat the statement in a moment. If this lasts, raise proxy.statement_memory, or send fewer or shorter ones at once.")
}
