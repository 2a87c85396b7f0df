package sandbox

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	maxWebhookBatch   = 100
	maxWebhookRetries = 10
)

// deliver sends webhooks until ctx ends.
func (s *Server) deliver(ctx context.Context) {
	client := &http.Client{
		Timeout:       s.cfg.Webhooks.Timeout,
		Transport:     &http.Transport{MaxIdleConnsPerHost: 10, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := map[*hook]chan struct{}{} // requests under way, by app
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		batches, wait := s.webhooks.take(time.Now(), s.cfg.Webhooks.Shuffle)
		for _, batch := range batches {
			h := batch[0].hook
			if slots[h] == nil {
				slots[h] = make(chan struct{}, s.webhooks.concurrency(h))
			}
			select {
			case slots[h] <- struct{}{}:
			case <-ctx.Done():
				return
			}
			done := slots[h]
			wg.Go(func() {
				defer func() { <-done }()
				s.send(ctx, client, batch)
			})
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-s.webhooks.wake:
		case <-timer.C:
		}
	}
}

// take takes what is due out of the queue, in batches of one app, and tells how long nothing else is.
func (w *webhooks) take(now time.Time, shuffle bool) (batches [][]*delivery, wait time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	due := map[*hook][]*delivery{}
	var later []*delivery
	wait = time.Hour
	for _, d := range w.pending {
		if d.due.After(now) {
			later = append(later, d)
			wait = min(wait, d.due.Sub(now))
			continue
		}
		due[d.hook] = append(due[d.hook], d)
	}
	w.pending = later
	for _, ds := range due {
		if shuffle {
			w.rng.Shuffle(len(ds), func(i, j int) { ds[i], ds[j] = ds[j], ds[i] })
		}
		for batch := range slices.Chunk(ds, maxWebhookBatch) {
			batches = append(batches, batch)
			w.sending += len(batch)
		}
	}
	return batches, wait
}

// concurrency is how many requests an app takes at a time. A change of it counts from the next start of the sender.
func (w *webhooks) concurrency(h *hook) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return h.concurrent
}

// send posts a batch and queues it again when it fails.
func (s *Server) send(ctx context.Context, client *http.Client, batch []*delivery) {
	bodies := make([]webhookEvent, len(batch))
	for i, d := range batch {
		bodies[i] = d.body
	}
	w := s.webhooks
	h := batch[0].hook
	w.mu.Lock()
	target := h.target
	w.stats.Requests++
	w.mu.Unlock()
	ok := target != "" && s.post(ctx, client, h.app, target, bodies)

	w.mu.Lock()
	defer w.mu.Unlock()
	w.sending -= len(batch)
	if ok {
		return
	}
	w.stats.Failed++
	for _, d := range batch {
		if d.body.AttemptNumber >= maxWebhookRetries {
			w.stats.GivenUp++
			continue
		}
		// The pauses double, so that ten of them fill the time.
		pause := float64(s.cfg.Webhooks.RetryOver) * float64(int(1)<<d.body.AttemptNumber) / 1023
		d.due = time.Now().Add(time.Duration(pause * (0.5 + w.rng.Float64()/2)))
		d.body.AttemptNumber++
		w.stats.Retried++
		w.pending = append(w.pending, d)
	}
	w.rouse()
}

// post sends one request and tells whether the receiver took it.
func (s *Server) post(ctx context.Context, client *http.Client, a *app, target string, events []webhookEvent) bool {
	raw, err := json.Marshal(events)
	if err != nil {
		return false
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(raw))
	if err != nil {
		return false
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "HubSpot Webhooks (simulated)")
	sign(req.Header, a.ClientSecret, target, raw, time.Now(), s.cfg.Webhooks.V2)
	res, err := client.Do(req)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
	_ = res.Body.Close() // it was only read
	return err == nil && res.StatusCode >= 200 && res.StatusCode < 300
}

// sign sets the headers of signature version 3 and of 1 or, if v2, 2.
func sign(h http.Header, secret, target string, body []byte, now time.Time, v2 bool) {
	version, text := "v1", secret+string(body)
	if v2 {
		version, text = "v2", secret+http.MethodPost+target+string(body)
	}
	sum := sha256.Sum256([]byte(text))
	h.Set("X-HubSpot-Signature", hex.EncodeToString(sum[:]))
	h.Set("X-HubSpot-Signature-Version", version)
	stamp := strconv.FormatInt(now.UnixMilli(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(http.MethodPost + signedURI(target) + string(body) + stamp))
	h.Set("X-HubSpot-Signature-v3", base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	h.Set("X-HubSpot-Request-Timestamp", stamp)
}

// signedURI is the URI as version 3 signs it: with some characters not encoded.
func signedURI(target string) string {
	var pairs []string
	for _, c := range ":/?@!$'()*,;" {
		pairs = append(pairs, url.QueryEscape(string(c)), string(c))
	}
	return strings.NewReplacer(pairs...).Replace(target)
}
