package telemetry_test

import (
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"hubpg/internal/telemetry"
)

func scrape(t *testing.T, m *telemetry.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != 200 {
		t.Fatalf("status %d, %v: %s", w.Code, err, body)
	}
	return string(body)
}

func full() telemetry.Sources {
	return telemetry.Sources{
		Proxy: func() telemetry.Proxy {
			return telemetry.Proxy{Sessions: 3, Delivered: 7, Position: 42, Ended: map[string]int64{"clean": 5}, Refused: map[string]int64{"tls": 1}}
		},
		Quota: func() *telemetry.Quota {
			return &telemetry.Quota{DailyUsed: 9, DailyRemaining: -1, Refused: map[string]int64{"DAILY": 2}, Buckets: []telemetry.Bucket{
				{Name: "search", Limit: 5, Granted: map[string]int64{"fresh": 11}, Waiting: map[string]int{"fresh": 2}, Paused: true},
			}}
		},
		Tables: func(context.Context) ([]telemetry.Table, error) {
			return []telemetry.Table{
				{Name: "hubspot.deals", Rows: 500, Lag: 90 * time.Second, Ready: true},
				{Name: "hubspot.carts", Lag: -1, Error: true},
			}, nil
		},
		Feeds: func(context.Context) ([]telemetry.Feed, error) {
			return []telemetry.Feed{{Name: "hubspot.journal", Events: 12, Ignored: 3, Waiting: 4, Lag: 2 * time.Second, Error: true}}, nil
		},
		Webhooks: func() *telemetry.Webhooks {
			return &telemetry.Webhooks{Deliveries: 6, Refused: map[string]int64{"signature": 5}}
		},
	}
}

func TestScrapeShowsWhatTheSourcesSay(t *testing.T) {
	t.Parallel()
	m := telemetry.New("v1", full())
	m.ObserveCall(telemetry.Call{Family: "search", Class: "fresh", Status: 429, Took: time.Second})
	m.ObserveStep(telemetry.Step{Lane: "follow", Rows: 4, Calls: 3, Took: time.Second, Failed: true})
	got := scrape(t, m)
	for _, want := range []string{
		`hubpg_build_info{version="v1"} 1`,
		`hubpg_hubspot_calls_total{class="fresh",family="search",status="429"} 1`,
		`hubpg_lane_steps_total{lane="follow",outcome="error"} 1`,
		`hubpg_lane_rows_total{lane="follow"} 4`,
		`hubpg_lane_calls_total{lane="follow"} 3`,
		`hubpg_proxy_sessions 3`,
		`hubpg_proxy_log_position 42`,
		`hubpg_proxy_ended_sessions_total{where="clean"} 5`,
		`hubpg_quota_calls_total{bucket="search",class="fresh"} 11`,
		`hubpg_quota_paused{bucket="search"} 1`,
		`hubpg_quota_refused_calls_total{policy="DAILY"} 2`,
		`hubpg_table_rows{table="hubspot.deals"} 500`,
		`hubpg_table_lag_seconds{table="hubspot.deals"} 90`,
		`hubpg_table_error{table="hubspot.carts"} 1`,
		`hubpg_database_up 1`,
		`hubpg_feed_events_total{feed="hubspot.journal"} 12`,
		`hubpg_feed_lag_seconds{feed="hubspot.journal"} 2`,
		`hubpg_feed_error{feed="hubspot.journal"} 1`,
		`hubpg_webhook_deliveries_total 6`,
		`hubpg_webhook_refused_deliveries_total{reason="signature"} 5`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("%s is missing", want)
		}
	}
	for _, unknown := range []string{`hubpg_table_lag_seconds{table="hubspot.carts"}`, "hubpg_quota_daily_remaining_calls "} {
		if strings.Contains(got, "\n"+unknown) {
			t.Errorf("%s is shown though it is not known", unknown)
		}
	}
}

func TestScrapeAnswersWhenPostgresIsAway(t *testing.T) {
	t.Parallel()
	sources := full()
	sources.Tables = func(context.Context) ([]telemetry.Table, error) { return nil, errors.New("away") }
	sources.Feeds = func(context.Context) ([]telemetry.Feed, error) { return nil, errors.New("away") }
	if got := scrape(t, telemetry.New("v1", sources)); !strings.Contains(got, "hubpg_database_up 0\n") || !strings.Contains(got, "hubpg_proxy_sessions 3\n") {
		t.Errorf("got %s", got)
	}
}

func TestEveryMetricIsNamedAndExplained(t *testing.T) {
	t.Parallel()
	m := telemetry.New("v1", full())
	m.ObserveCall(telemetry.Call{Family: "search", Class: "fresh", Status: 200})
	m.ObserveStep(telemetry.Step{Lane: "follow"})
	name := regexp.MustCompile(`^hubpg_(hubspot|lane|proxy|quota|table|database|build|feed|webhook)_[a-z_]+$`)
	ours := 0
	for line := range strings.Lines(scrape(t, m)) {
		fields := strings.SplitN(strings.TrimSpace(line), " ", 4)
		if len(fields) < 4 || fields[1] != "HELP" || strings.HasPrefix(fields[2], "go_") || strings.HasPrefix(fields[2], "process_") {
			continue
		}
		ours++
		if !name.MatchString(fields[2]) {
			t.Errorf("%s is not named hubpg_subsystem_noun_unit", fields[2])
		}
		if len(fields[3]) < 25 {
			t.Errorf("%s is not explained: %s", fields[2], fields[3])
		}
	}
	if ours < 25 {
		t.Errorf("only %d metrics of ours", ours)
	}
}

func TestProcessWithoutSourcesStillScrapes(t *testing.T) {
	t.Parallel()
	m := telemetry.New("v1", telemetry.Sources{Quota: func() *telemetry.Quota { return nil }})
	if got := scrape(t, m); !strings.Contains(got, "go_goroutines") {
		t.Errorf("got %s", got)
	}
}
