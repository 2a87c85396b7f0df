package budget

import "time"

// class is the rank of a caller; smaller is more urgent. The names are those of the HubSpot client.
type class int

const (
	writes class = iota
	fresh
	backfill
	sweeps
	classes // how many there are
)

// classOf returns the class of a name; what it does not know it takes for fresh reads.
func classOf(name string) class {
	switch name {
	case "writes":
		return writes
	case "backfill":
		return backfill
	case "sweeps":
		return sweeps
	}
	return fresh
}

func (c class) String() string {
	return [...]string{"writes", "fresh", "backfill", "sweeps"}[c]
}

// horizon is how far into the future a class may reserve. The distance between two classes is what lets the more
// urgent one go first across processes.
func (c class) horizon() time.Duration {
	return [...]time.Duration{2 * time.Second, 500 * time.Millisecond, 250 * time.Millisecond, 125 * time.Millisecond}[c]
}

// starved is the horizon of a class that was passed over for too long.
const starvedHorizon = 2250 * time.Millisecond

// dailyCap is the part of the reads' daily share that a class may bring the day's count to. What is left is for the
// more urgent ones.
func (c class) dailyCap() float64 {
	return [...]float64{1, 1, 0.85, 0.7}[c]
}
