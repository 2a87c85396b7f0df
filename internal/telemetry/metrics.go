package telemetry

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics holds the process's metrics. Make it with [New].
type Metrics struct {
	registry *prometheus.Registry

	calls       *prometheus.CounterVec
	callSeconds *prometheus.HistogramVec
	steps       *prometheus.CounterVec
	stepRows    *prometheus.CounterVec
	stepCalls   *prometheus.CounterVec
	stepSeconds *prometheus.HistogramVec
}

// New registers the metrics of a process of this version. Sources that are nil are left out.
func New(version string, sources Sources) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hubpg_hubspot_calls_total",
			Help: "Attempts to call HubSpot by limit family, class and status (0: no answer). " +
				"Many 429s: something else eats the account's quota; 401 or 403: the token needs attention.",
		}, []string{"family", "class", "status"}),
		callSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "hubpg_hubspot_call_seconds",
			Help:    "Duration of one attempt. A p95 over ten seconds means that HubSpot or the network is slow.",
			Buckets: []float64{.02, .05, .1, .2, .5, 1, 2, 5, 10, 30},
		}, []string{"family"}),
		steps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hubpg_lane_steps_total",
			Help: "Finished steps of the lanes by outcome. A rate of errors that stays above zero: see /status for the table and its remedy.",
		}, []string{"lane", "outcome"}),
		stepRows: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hubpg_lane_rows_total",
			Help: "Rows that a lane found new or different. Zero for the follow lane over a busy day means that changes are missed.",
		}, []string{"lane"}),
		stepCalls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hubpg_lane_calls_total",
			Help: "Calls to HubSpot that this process has made for a lane. A lane that takes most of the daily quota: raise hubspot.share, or see hubpg.calls for the table that it is spent on.",
		}, []string{"lane"}),
		stepSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "hubpg_lane_step_seconds",
			Help:    "Duration of a lane's step. Steps are bounded; over a minute means waiting for quota or for Postgres.",
			Buckets: []float64{.01, .05, .1, .5, 1, 5, 15, 60, 180},
		}, []string{"lane"}),
	}
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "hubpg_build_info",
		Help:        "Always 1; the version is a label. Several versions at once mean a half-finished upgrade.",
		ConstLabels: prometheus.Labels{"version": version},
	}, func() float64 { return 1 })
	m.registry.MustRegister(m.calls, m.callSeconds, m.steps, m.stepRows, m.stepCalls, m.stepSeconds, build, newSnapshots(sources),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.registry.MustRegister(newFeeds(sources))
	return m
}

// Call is one attempt to call HubSpot.
type Call struct {
	Family, Class string
	Status        int // 0 without an answer
	Took          time.Duration
}

// ObserveCall counts an attempt.
func (m *Metrics) ObserveCall(c Call) {
	m.calls.WithLabelValues(c.Family, c.Class, strconv.Itoa(c.Status)).Inc()
	m.callSeconds.WithLabelValues(c.Family).Observe(c.Took.Seconds())
}

// Step is one finished step of a lane.
type Step struct {
	Lane   string
	Rows   int // new or different
	Calls  int // to HubSpot
	Took   time.Duration
	Failed bool
}

// ObserveStep counts a step.
func (m *Metrics) ObserveStep(s Step) {
	outcome := "ok"
	if s.Failed {
		outcome = "error"
	}
	m.steps.WithLabelValues(s.Lane, outcome).Inc()
	m.stepRows.WithLabelValues(s.Lane).Add(float64(s.Rows))
	m.stepCalls.WithLabelValues(s.Lane).Add(float64(s.Calls))
	m.stepSeconds.WithLabelValues(s.Lane).Observe(s.Took.Seconds())
}

// Handler serves /metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: 4,
		Timeout:             10 * time.Second,
		ErrorHandling:       promhttp.ContinueOnError, // what can be told is told when Postgres is away
	})
}
