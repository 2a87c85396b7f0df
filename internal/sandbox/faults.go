package sandbox

import (
	"math/rand/v2"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// faults are the injected faults, in order of injection.
type faults struct {
	mu   sync.Mutex // guards below
	list []*armed
	rng  *rand.Rand
}

type armed struct {
	Fault
	path *regexp.Regexp
	left int
}

func newFaults(seed int64) *faults {
	return &faults{rng: rand.New(rand.NewPCG(uint64(seed), 0x6661756c))}
}

func (f *faults) add(one Fault) error {
	re, err := regexp.Compile(one.Path)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, &armed{Fault: one, path: re, left: one.Count})
	return nil
}

func (f *faults) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = nil
}

// strike returns the fault this request suffers, or nil.
func (f *faults) strike(method, path string, oauth bool) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, a := range f.list {
		if a.Method != "" && a.Method != method || !a.path.MatchString(path) || a.OAuth && !oauth {
			continue
		}
		if a.Kind == FaultEmptyPage && !strings.HasSuffix(path, "/search") {
			continue
		}
		if a.Kind == FaultSilence && !strings.HasSuffix(path, "/batch/read") {
			continue
		}
		if a.Skip > 0 {
			a.Skip--
			continue
		}
		if a.Probability > 0 && f.rng.Float64() >= a.Probability {
			continue
		}
		if a.Count > 0 {
			if a.left--; a.left == 0 {
				f.list = append(f.list[:i:i], f.list[i+1:]...)
			}
		}
		one := a.Fault
		return &one
	}
	return nil
}

// canned is the reply of a fault that answers instead of the account, nil for the other kinds.
func (c *call) canned(f *Fault) *reply {
	var r *reply
	switch f.Kind {
	case FaultStatus:
		r = &reply{status: f.Status, body: []byte(f.Body), html: strings.HasPrefix(f.Body, "<")}
	case FaultRateBurst:
		r = c.tooMany("TEN_SECONDLY_ROLLING")
	case FaultRateDaily:
		r = c.tooMany("DAILY")
	case FaultRateSearch:
		r = c.tooMany("SECONDLY")
	case FaultInternal:
		r = c.internal()
	case FaultBadGateway:
		r = htmlReply(http.StatusBadGateway, "502 Bad Gateway")
	case FaultGatewayTimeout:
		r = htmlReply(http.StatusGatewayTimeout, "504 Gateway Time-out")
	case FaultLocked:
		r = c.fail(failure{status: http.StatusLocked, message: "The record is locked by another operation, please retry later."})
	case FaultMigrating:
		r = c.fail(failure{status: 477, message: "This account is being migrated between data hosting locations."})
		if f.RetryAfter == 0 {
			r.set("Retry-After", "1")
		}
	case FaultURITooLong:
		r = htmlReply(http.StatusRequestURITooLong, "414 Request-URI Too Large")
	case FaultExpiredToken:
		r = c.expired(time.Now())
	case FaultMissingScopes:
		r = c.missingScopes("crm.objects.contacts.read")
	default:
		return nil
	}
	if f.RetryAfter > 0 {
		r.set("Retry-After", strconv.Itoa(f.RetryAfter))
	}
	return r
}

func (c *call) internal() *reply {
	return c.fail(failure{status: http.StatusInternalServerError, message: "internal error"})
}
