package hubapi

import (
	"context"
	"net/http"
	"time"
)

// Account describes the HubSpot account that the token belongs to.
type Account struct {
	PortalID              int64    `json:"portalId"`
	Type                  string   `json:"accountType"`
	TimeZone              string   `json:"timeZone"` // the daily quota starts again at midnight here
	UTCOffsetMilliseconds int64    `json:"utcOffsetMilliseconds"`
	Currency              string   `json:"companyCurrency"`
	AdditionalCurrencies  []string `json:"additionalCurrencies"`
	UIDomain              string   `json:"uiDomain"`
	DataHostingLocation   string   `json:"dataHostingLocation"`
}

// Location returns the account's time zone. Where the system does not know its name, the offset of the day the account
// was read stands in.
func (a Account) Location() *time.Location {
	if loc, err := time.LoadLocation(a.TimeZone); err == nil && a.TimeZone != "" {
		return loc
	}
	return time.FixedZone(a.TimeZone, int(a.UTCOffsetMilliseconds/1000))
}

// GetAccount returns the account of the token. It is the cheapest way to learn whether a token works.
func (c *Client) GetAccount(ctx context.Context) (Account, error) {
	return get[Account](ctx, c, read(FamilyObject, http.MethodGet, c.versions.account()+"/details"))
}

// DailyUsage is HubSpot's own count of the calls of all private apps and service keys of the account today.
type DailyUsage struct {
	Name        string    `json:"name"`
	Limit       int64     `json:"usageLimit"`
	Used        int64     `json:"currentUsage"`
	CollectedAt time.Time `json:"collectedAt"`
	Status      string    `json:"fetchStatus"` // SUCCESS or CACHED when the numbers mean something
	ResetsAt    time.Time `json:"resetsAt"`
}

// GetDailyUsage returns today's count. An account without a daily limit answers with the zero value.
func (c *Client) GetDailyUsage(ctx context.Context) (DailyUsage, error) {
	r := read(FamilyObject, http.MethodGet, c.versions.account()+"/api-usage/daily/private-apps")
	usages, err := list[DailyUsage](ctx, c, r)
	if err != nil || len(usages) == 0 {
		return DailyUsage{}, err
	}
	return usages[0], nil
}

// RecordUsage says how many records of a type the account holds.
type RecordUsage struct {
	TypeID string
	Usage  int64
	Limit  int64 // 0 when HubSpot names none
}

type recordLimits struct {
	HubSpotDefined []recordLimit `json:"hubspotDefinedObjectTypes"`
	Custom         struct {
		ByType []recordLimit `json:"byObjectType"`
	} `json:"customObjectTypes"`
}

type recordLimit struct {
	TypeID string `json:"objectTypeId"`
	Usage  int64  `json:"usage"`
	Limit  int64  `json:"limit"`
}

// GetRecordLimits returns HubSpot's count of records by type id: a free check of how complete a copy is.
func (c *Client) GetRecordLimits(ctx context.Context) (map[string]RecordUsage, error) {
	limits, err := get[recordLimits](ctx, c, read(FamilyObject, http.MethodGet, c.versions.limits()+"/records"))
	if err != nil {
		return nil, err
	}
	usage := make(map[string]RecordUsage, len(limits.HubSpotDefined)+len(limits.Custom.ByType))
	for _, group := range [][]recordLimit{limits.HubSpotDefined, limits.Custom.ByType} {
		for _, l := range group {
			usage[l.TypeID] = RecordUsage(l)
		}
	}
	return usage, nil
}

// ListEnablement says by type id which of HubSpot's optional objects are switched on. Types that cannot be switched,
// such as contacts, are not in it.
func (c *Client) ListEnablement(ctx context.Context) (map[string]bool, error) {
	type enablement struct {
		ByType map[string]bool `json:"enablementByObjectTypeId"`
	}
	e, err := get[enablement](ctx, c, read(FamilyObject, http.MethodGet, c.versions.library()+"/enablement"))
	return e.ByType, err
}
