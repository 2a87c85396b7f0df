package telemetry

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Feed is the state of a way in which HubSpot tells of changes by itself.
type Feed struct {
	Name    string // schema of the account, a dot, webhook or journal
	Events  int64
	Ignored int64 // of them, those about nothing that has a table
	Waiting int64 // records that were named and have not been read yet
	Lag     time.Duration
	Error   bool
}

// Webhooks counts what this process was sent.
type Webhooks struct {
	Deliveries int64
	Refused    map[string]int64 // by reason
}

// feeds collects, at scrape time, what webhooks and journal have told.
type feeds struct {
	sources Sources

	events, ignored, waiting, lag, failing, deliveries, refused *prometheus.Desc
}

func newFeeds(sources Sources) *feeds {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &feeds{
		sources: sources,

		events:     desc("hubpg_feed_events_total", "Events of HubSpot's webhooks and journal. Flat while the account changes: see hubpg.feeds; polling goes on.", "feed"),
		ignored:    desc("hubpg_feed_ignored_events_total", "Events about nothing that has a table. Nearly all of them: the app subscribes to the wrong things.", "feed"),
		waiting:    desc("hubpg_feed_waiting_records", "Records that HubSpot named and that have not been read yet. Growing: the share of the quota is too small.", "feed"),
		lag:        desc("hubpg_feed_lag_seconds", "How late what HubSpot tells is read. Over a minute: see hubpg.feeds.", "feed"),
		failing:    desc("hubpg_feed_error", "1 while a feed cannot be followed. hubpg.feeds has the remedy.", "feed"),
		deliveries: desc("hubpg_webhook_deliveries_total", "Webhook deliveries that this process has stored."),
		refused:    desc("hubpg_webhook_refused_deliveries_total", "Webhook deliveries refused, by reason. Growth at signature: a wrong secret or address, or somebody tries.", "reason"),
	}
}

// Describe sends every description.
func (f *feeds) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{f.events, f.ignored, f.waiting, f.lag, f.failing, f.deliveries, f.refused} {
		ch <- d
	}
}

// Collect asks the sources. A database that does not answer is told by hubpg_database_up.
func (f *feeds) Collect(ch chan<- prometheus.Metric) {
	if f.sources.Webhooks != nil {
		if w := f.sources.Webhooks(); w != nil {
			ch <- prometheus.MustNewConstMetric(f.deliveries, prometheus.CounterValue, float64(w.Deliveries))
			for reason, n := range w.Refused {
				ch <- prometheus.MustNewConstMetric(f.refused, prometheus.CounterValue, float64(n), reason)
			}
		}
	}
	if f.sources.Feeds == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	list, err := f.sources.Feeds(ctx)
	if err != nil {
		return
	}
	for _, feed := range list {
		ch <- prometheus.MustNewConstMetric(f.events, prometheus.CounterValue, float64(feed.Events), feed.Name)
		ch <- prometheus.MustNewConstMetric(f.ignored, prometheus.CounterValue, float64(feed.Ignored), feed.Name)
		ch <- prometheus.MustNewConstMetric(f.waiting, prometheus.GaugeValue, float64(feed.Waiting), feed.Name)
		ch <- prometheus.MustNewConstMetric(f.lag, prometheus.GaugeValue, feed.Lag.Seconds(), feed.Name)
		ch <- prometheus.MustNewConstMetric(f.failing, prometheus.GaugeValue, number(feed.Error), feed.Name)
	}
}
