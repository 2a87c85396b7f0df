package sandbox

import "time"

// Record is the truth about one record, for comparison with a mirror.
type Record struct {
	ID        int64     `json:"id"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
	Archived  bool      `json:"archived"`
	// ArchivedAt is zero unless Archived.
	ArchivedAt time.Time `json:"archivedAt"`
	// Properties holds every value that is set, "" for one that was cleared.
	Properties map[string]string `json:"properties"`
}

// Edge is one association as seen from one side. A pair with two types is two edges.
type Edge struct {
	From     int64  `json:"from"`
	To       int64  `json:"to"`
	Category string `json:"category"`
	TypeID   int    `json:"typeId"`
	Label    string `json:"label"`
}

// Stats counts what clients asked. Rejected and failed calls count too.
type Stats struct {
	Calls int64 `json:"calls"`
	// ByFamily counts calls per endpoint family: list, read, search, batch-read, write, associations,
	// properties, schemas, owners, pipelines, account, other.
	ByFamily map[string]int64 `json:"byFamily"`
	ByStatus map[int]int64    `json:"byStatus"`
	// RateLimited counts the 429s sent, by policy.
	RateLimited map[string]int64 `json:"rateLimited"`
	// Violations counts the calls that arrived over a limit, by limiter, whether limits are enforced or
	// not: burst (ten seconds rolling), search (one second rolling), associations, daily.
	Violations map[string]int64 `json:"violations"`
	// Peak is the largest number of calls seen in a limiter's rolling window.
	Peak map[string]int `json:"peak"`
	// DailyUsed is the account's daily count, calls of other apps included.
	DailyUsed int `json:"dailyUsed"`
	// Changes counts spontaneous changes made by [Server.Run] and [Server.Step].
	Changes int64 `json:"changes"`
}
