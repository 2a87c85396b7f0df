package sandbox

import (
	"cmp"
	"slices"
	"time"
)

// Profile is how an account behaves towards its clients: delays, disorder and faults with their probabilities. It is
// data; [Profile.Apply] puts it into a Config, where it may still be changed.
type Profile struct {
	Name string
	// About says in a line what it is for.
	About string

	Latency    time.Duration
	IndexLag   time.Duration
	SecondBump time.Duration
	Disorder   bool
	Stray      float64
	Rollups    bool
	ExportTime time.Duration
	Webhooks   Webhooks
	Journal    Journal
	// RotateRefreshTokens is [Config.RotateRefreshTokens].
	RotateRefreshTokens bool
	// Faults are tried in order for each request; the first one that strikes counts.
	Faults []Fault
}

// Where the faults of a profile strike. The daily limit is not among them: its 429 means to stop until midnight.
const (
	anyAPI       = `^/(crm|crm-object-schemas|account-info|marketing|settings|form-integrations|webhooks-journal)/`
	searchOnly   = `/search$`
	anyButSearch = `^/crm/.*([^h]|[^c]h|[^r]ch)$` // not search
	bulkWrites   = `^/crm/.*/(batch/(create|update|upsert|archive)|merge)$`
)

// Profiles are the known profiles, from the mildest on.
func Profiles() []Profile {
	return []Profile{
		{
			Name:  "calm",
			About: "what HubSpot documents and no more: no lag, no faults",
		},
		{
			Name:     "real",
			About:    "a working account on an ordinary day: search lags by seconds and is disordered near now, one call in 200 fails",
			Latency:  40 * time.Millisecond,
			IndexLag: 5 * time.Second, SecondBump: 450 * time.Millisecond, Disorder: true, Stray: 0.02, Rollups: true,
			ExportTime: 5 * time.Second,
			Webhooks:   Webhooks{RetryOver: 10 * time.Minute, Shuffle: true, Duplicates: 0.01},
			Journal:    Journal{Every: 2 * time.Second},
			Faults:     faultMatrix(1),
		},
		{
			Name:     "hostile",
			About:    "everything that is known to go wrong, all the time: one call in ten fails",
			IndexLag: 10 * time.Second, SecondBump: 700 * time.Millisecond, Disorder: true, Stray: 0.2, Rollups: true,
			ExportTime:          10 * time.Second,
			Webhooks:            Webhooks{RetryOver: 2 * time.Minute, Shuffle: true, Duplicates: 0.2},
			Journal:             Journal{Every: 2 * time.Second},
			RotateRefreshTokens: true,
			Faults:              faultMatrix(20),
		},
	}
}

// faultMatrix are the faults of an ordinary day, with probabilities times n.
func faultMatrix(n float64) []Fault {
	fs := []Fault{
		// Other apps of the account search, too: the limit of five a second is for all of them.
		{Kind: FaultRateSearch, Path: searchOnly, Probability: 0.0025},
		{Kind: FaultRateBurst, Path: anyButSearch, Probability: 0.0005},
		{Kind: FaultInternal, Path: anyAPI, Probability: 0.001},
		{Kind: FaultBadGateway, Path: anyAPI, Probability: 0.0005},
		{Kind: FaultStatus, Status: 503, Body: gatewayPage("503 Service Temporarily Unavailable"), Path: anyAPI, Probability: 0.00025},
		{Kind: FaultGatewayTimeout, Path: anyAPI, Probability: 0.00025},
		{Kind: FaultStatus, Status: 524, Body: gatewayPage("524 A Timeout Occurred"), Path: anyAPI, Probability: 0.0001},
		{Kind: FaultInternal, Path: `^/oauth/.*/token$`, Probability: 0.001},
		{Kind: FaultLocked, Path: bulkWrites, Probability: 0.001},
		{Kind: FaultLocked, Method: "PATCH", Path: `^/crm/`, Probability: 0.001},
		{Kind: FaultMigrating, Path: anyAPI, RetryAfter: 1, Probability: 0.00005},
		{Kind: FaultExpiredToken, OAuth: true, Path: anyAPI, Probability: 0.0005},
		{Kind: FaultDrop, Path: anyAPI, Probability: 0.0005},
		{Kind: FaultDropAfter, Path: anyAPI, Probability: 0.00025},
		{Kind: FaultCut, Path: anyAPI, Probability: 0.0005},
		{Kind: FaultSlow, Path: anyAPI, Delay: 2 * time.Second, Probability: 0.0005},
		{Kind: FaultEmptyPage, Path: searchOnly, Probability: 0.0015},
	}
	for i := range fs {
		fs[i].Probability *= n
	}
	return fs
}

// ProfileNamed finds a profile.
func ProfileNamed(name string) (p Profile, ok bool) {
	for _, p := range Profiles() {
		if p.Name == name {
			return p, true
		}
	}
	return Profile{}, false
}

// Apply puts the profile into a Config. What the Config says already stays; faults are added to it.
func (p Profile) Apply(cfg Config) Config {
	cfg.Latency = cmp.Or(cfg.Latency, p.Latency)
	cfg.IndexLag = cmp.Or(cfg.IndexLag, p.IndexLag)
	cfg.SecondBump = cmp.Or(cfg.SecondBump, p.SecondBump)
	cfg.Disorder = cfg.Disorder || p.Disorder
	cfg.Stray = cmp.Or(cfg.Stray, p.Stray)
	cfg.Rollups = cfg.Rollups || p.Rollups
	cfg.ExportTime = cmp.Or(cfg.ExportTime, p.ExportTime)
	cfg.Webhooks = cmp.Or(cfg.Webhooks, p.Webhooks)
	cfg.Journal = cmp.Or(cfg.Journal, p.Journal)
	cfg.RotateRefreshTokens = cfg.RotateRefreshTokens || p.RotateRefreshTokens
	cfg.Faults = slices.Concat(cfg.Faults, p.Faults)
	return cfg
}
