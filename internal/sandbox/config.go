package sandbox

import (
	"log/slog"
	"time"
)

// Defaults of a [Config] whose fields are left zero.
const (
	DefaultToken    = "sandbox"
	DefaultContacts = 2000
	DefaultPortalID = 44237313
)

// Config says what a simulated account holds and how hard it is on its clients. The zero value is a
// seeded Enterprise account without latency, index lag or rate limits.
type Config struct {
	// Seed decides every generated id, value and spontaneous change.
	Seed int64
	// Contacts is the number of contacts seeded (default [DefaultContacts]); the other object types
	// grow with it.
	Contacts int
	// Empty seeds no records: object types, properties, owners and pipelines only.
	Empty bool
	// Quiet makes [Server.Run] change nothing.
	Quiet bool
	// ChangeEvery is the mean pause between two spontaneous changes (default 600 ms).
	ChangeEvery time.Duration

	// Token is the bearer token accepted (default [DefaultToken]).
	Token string
	// PortalID is the account's id (default [DefaultPortalID]).
	PortalID int64
	// Tier decides the limits (default [TierEnterprise]).
	Tier Tier
	// WithheldScopes are scopes the token has not been granted, for example
	// "crm.objects.deals.read".
	WithheldScopes []string

	// Apps can be installed by OAuth (default one with [DefaultClientID] and [DefaultClientSecret]).
	Apps []App
	// TokenLife is how long an access token lives (default 30 minutes).
	TokenLife time.Duration
	// RotateRefreshTokens gives a new refresh token with every refresh and revokes the old one; otherwise the
	// same one comes back.
	RotateRefreshTokens bool
	// AutoApprove makes the consent page approve by itself.
	AutoApprove bool

	// Limits turns HubSpot's rate limits on. Calls over them are counted in [Stats] either way.
	Limits bool
	// DailyUsed is what other apps of the account have already spent of today's calls.
	DailyUsed int
	// Faults are injected from the start; see [Server.InjectFault] and [Profile].
	Faults []Fault
	// Latency is added to each API response.
	Latency time.Duration

	// IndexLag is the time a change takes to show in search.
	IndexLag time.Duration
	// Disorder makes search misbehave near now as HubSpot's does: each record lags by its own part of
	// IndexLag, and rows of the last minute come out of order.
	Disorder bool
	// Stray is the probability that a row of a search shows the record as it is and not as the index knows it, so that
	// it may lie outside what was searched for.
	Stray float64
	// SecondBump, when positive, makes a new record's modified time move once more this long after
	// creation, as HubSpot's enrichment does.
	SecondBump time.Duration
	// Rollups lets association changes recompute associatedcompanyid and the num_associated_* counts,
	// without a change of the modified time.
	Rollups bool

	// Webhooks bends the delivery of webhooks.
	Webhooks Webhooks
	// Journal bends the webhooks journal.
	Journal Journal
	// ExportTime is how long an export takes (default 200 ms).
	ExportTime time.Duration
	// ArchiveLife is how long deleted records stay in the archive (default 90 days).
	ArchiveLife time.Duration

	// Logger receives life-cycle messages; nil discards them.
	Logger *slog.Logger
}

// Tier is a HubSpot subscription level.
type Tier uint8

// The tiers. Free and Starter have the same limits.
const (
	TierEnterprise Tier = iota
	TierProfessional
	TierStarter
	// TierAddOn is Enterprise with one API Limit Increase.
	TierAddOn
)

// quota is what a tier allows.
type quota struct {
	burst, daily, associations int
}

// searchesPerSecond is allowed per account in any tier.
const searchesPerSecond = 5

func (t Tier) quota() quota {
	switch t {
	case TierStarter:
		return quota{burst: 100, daily: 250_000, associations: 100}
	case TierProfessional:
		return quota{burst: 190, daily: 625_000, associations: 150}
	case TierAddOn:
		return quota{burst: 250, daily: 2_000_000, associations: 200}
	default:
		return quota{burst: 190, daily: 1_000_000, associations: 150}
	}
}

func (c Config) withDefaults() Config {
	if c.Contacts <= 0 {
		c.Contacts = DefaultContacts
	}
	if c.Token == "" {
		c.Token = DefaultToken
	}
	if c.PortalID == 0 {
		c.PortalID = DefaultPortalID
	}
	if len(c.Apps) == 0 {
		c.Apps = []App{{ClientID: DefaultClientID, ClientSecret: DefaultClientSecret}}
	}
	if c.TokenLife <= 0 {
		c.TokenLife = 30 * time.Minute
	}
	if c.Webhooks.RetryOver <= 0 {
		c.Webhooks.RetryOver = 24 * time.Hour
	}
	if c.Webhooks.Timeout <= 0 {
		c.Webhooks.Timeout = 5 * time.Second
	}
	if c.Journal.Life <= 0 {
		c.Journal.Life = 72 * time.Hour
	}
	if c.ExportTime <= 0 {
		c.ExportTime = 200 * time.Millisecond
	}
	if c.ArchiveLife <= 0 {
		c.ArchiveLife = 90 * 24 * time.Hour
	}
	if c.ChangeEvery <= 0 {
		c.ChangeEvery = 600 * time.Millisecond
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}
