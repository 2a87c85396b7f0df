package proxy

import (
	"strings"
	"testing"
	"time"
)

func TestAPanicOnTheLoopIsRaisedInItsSession(t *testing.T) {
	t.Parallel()
	for name, move := range map[string]func(*ride) error{
		"of front": func(e *ride) error { e.fromClient(); return e.ended.front },
		"of back":  func(e *ride) error { e.fromServer(); return e.ended.back },
	} {
		v := &session{}
		over := make(chan struct{})
		e := &ride{front: &front{session: v}, filter: &back{session: v}, on: true, over: func() { close(over) }}
		err := move(e) // without a pump
		select {
		case <-over:
		case <-time.After(time.Minute):
			t.Errorf("%s: the ride goes on", name)
		}
		func() {
			defer func() {
				if p, ok := recover().(*panicked); !ok || !strings.Contains(p.Error(), "express.go") {
					t.Errorf("%s: recovered %v, want the panic and where it happened", name, p)
				}
			}()
			t.Errorf("%s: %v was not raised", name, raised(err))
		}()
		if !v.out.TryLock() {
			t.Errorf("%s: the client's lock was kept", name)
		}
	}
}
