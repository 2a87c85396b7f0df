package materialize

import (
	"testing"
	"time"
)

// A pass that seems to have ended tomorrow, by a clock that was wrong, is followed by the next in its time.
func TestAClockThatWasAheadMakesNoLongRest(t *testing.T) {
	t.Parallel()
	tomorrow := time.Now().Add(24 * time.Hour)
	for want, r := range map[time.Duration]rest{
		10 * time.Minute: {Ended: tomorrow},
		time.Hour:        {Ended: tomorrow, Worked: 15 * time.Minute},
	} {
		if got := r.wait(10 * time.Minute); got > want {
			t.Errorf("%+v rests for %s, want at most %s", r, got, want)
		}
	}
}
