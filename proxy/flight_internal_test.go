package proxy

import "testing"

// A round that never ends takes no more memory than any other: what is in flight is found out later instead.
func TestARoundThatNeverEndsIsBounded(t *testing.T) {
	t.Parallel()
	var l ledger
	for range 20 * maxFlight {
		l.step()
		l.copyDone()
	}
	if n := len(l.flight.said); n > 2*maxFlight || !l.doubt {
		t.Errorf("%d runs are kept, in doubt: %v", n, l.doubt)
	}
}
