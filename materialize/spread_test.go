package materialize

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// TestWorkThatComesWhileOtherIsLongIsBegun: a step does not end, and does not stand still, for as long as one piece of its work takes.
func TestWorkThatComesWhileOtherIsLongIsBegun(t *testing.T) {
	t.Parallel()
	s := &step{deadline: time.Now().Add(time.Minute)}
	begun, late := make(chan struct{}), make(chan struct{})
	given := map[string]bool{}
	err := s.spread(time.Millisecond, func(inHand []string) (string, func() error, error) {
		select {
		case <-begun:
		default:
			if !given["long"] {
				given["long"] = true
				return "long", func() error {
					close(begun)
					select {
					case <-late:
						return nil
					case <-time.After(20 * time.Second):
						return errors.New("what came later was not begun")
					}
				}, nil
			}
			return "", nil, nil
		}
		if given["late"] {
			return "", nil, nil
		}
		given["late"] = true
		if !slices.Contains(inHand, "long") {
			t.Errorf("in hand are %q", inHand)
		}
		return "late", func() error { close(late); return nil }, nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestWorkThatFailsStaysInHand: it is not tried again in the same step, whose other work is done.
func TestWorkThatFailsStaysInHand(t *testing.T) {
	t.Parallel()
	s := &step{deadline: time.Now().Add(time.Minute)}
	failure, done := errors.New("it cannot be read"), map[string]int{}
	err := s.spread(time.Millisecond, func(inHand []string) (string, func() error, error) {
		for _, name := range []string{"bad", "good"} {
			if !slices.Contains(inHand, name) && done[name] < 3 {
				done[name]++
				return name, func() error {
					if name == "bad" {
						return failure
					}
					return nil
				}, nil
			}
		}
		return "", nil, nil
	})
	if !errors.Is(err, failure) || done["bad"] != 1 || done["good"] != 3 {
		t.Errorf("bad was tried %d times, good %d times: %v", done["bad"], done["good"], err)
	}
}
