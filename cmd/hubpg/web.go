package main

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
)

// web serves http.listen. It begins before the process can do anything else, since that may have to wait, and whoever looks
// after processes ends those that do not answer.
type web struct {
	address net.Addr
	handler atomic.Pointer[http.Handler]
	stop    context.CancelFunc
	done    chan struct{}
	err     error // once done is closed
}

// openWeb serves first, until show is called with something else, and close at the end.
func openWeb(ctx context.Context, listener net.Listener, first http.Handler) *web {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w := &web{address: listener.Addr(), stop: cancel, done: make(chan struct{})}
	w.show(first)
	go func() { // ends with close
		defer close(w.done)
		w.err = serveHTTP(ctx, listener, w)
	}()
	return w
}

func (w *web) show(h http.Handler) { w.handler.Store(&h) }

// ServeHTTP implements [http.Handler].
func (w *web) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	(*w.handler.Load()).ServeHTTP(rw, r)
}

// run returns when ctx ends, or serving does.
func (w *web) run(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-w.done:
	}
	return w.close()
}

func (w *web) close() error {
	w.stop()
	<-w.done
	return w.err
}
