package materialize

import (
	"fmt"
	"sync/atomic"

	"github.com/dgraph-io/ristretto/v2"
)

// DefaultRemember is how many versions are remembered.
const DefaultRemember = 200_000

// seen remembers which version of which record is stored, so that the overlap of polls costs no reads. It may forget,
// and may have missed something: a version that is not in it is looked up in the table. It never knows more than the
// table, since versions are added after the commit.
type seen struct {
	cache *ristretto.Cache[uint64, sight]
	epoch atomic.Uint32
}

// sight is a version that was stored, and when: what the database lost since, it may not have any more.
type sight struct {
	version int64
	epoch   uint32
}

// forget makes everything be looked up again.
func (s *seen) forget() { s.epoch.Add(1) }

func newSeen(versions int) (*seen, error) {
	cache, err := ristretto.NewCache(&ristretto.Config[uint64, sight]{
		NumCounters: int64(versions) * 10, MaxCost: int64(versions), BufferItems: 64, IgnoreInternalCost: true,
	})
	if err != nil {
		return nil, fmt.Errorf("create cache of versions: %w", err)
	}
	return &seen{cache: cache}, nil
}

// key packs a table's number and an id. Ids over 56 bits, which HubSpot does not hand out, have none.
func (*seen) key(table uint8, id int64) (uint64, bool) {
	if id < 0 || id>>56 != 0 {
		return 0, false
	}
	return uint64(table)<<56 | uint64(id), true
}

// has says whether the version, or a newer one, is known to be stored.
func (s *seen) has(table uint8, h hit) bool {
	k, ok := s.key(table, h.id)
	if !ok {
		return false
	}
	stored, ok := s.cache.Get(k)
	return ok && stored.epoch == s.epoch.Load() && stored.version >= h.updated
}

func (s *seen) add(table uint8, id, version int64) {
	if k, ok := s.key(table, id); ok {
		s.cache.Set(k, sight{version, s.epoch.Load()}, 1)
	}
}

func (s *seen) close() { s.cache.Close() }
