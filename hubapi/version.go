package hubapi

// Versions names the API version of each family of endpoints, such as "2026-03", "2026-09", "v3" or "v4".
type Versions struct {
	Objects      string
	Properties   string
	Schemas      string
	Associations string // v3 is answered as v4: v3's associations cannot be paged
	Owners       string
	Pipelines    string
	Account      string
	Limits       string // record limits
	Library      string // which optional objects are switched on
	Segments     string // lists and who is on them
	Forms        string // v3, or 2026-09-beta; submissions have only v1
	Emails       string // marketing emails
	Campaigns    string
	Users        string // users and teams; there is no 2026-09
	Exports      string
	Webhooks     string
	Journal      string // of webhooks
}

// DefaultVersions returns the versions that a Client uses unless told otherwise. 2026-03 is the newest family that is
// complete; limits and the object library are documented in 2026-09 only.
func DefaultVersions() Versions {
	const stable, newest = "2026-03", "2026-09"
	return Versions{
		Objects: stable, Properties: stable, Schemas: stable, Associations: stable, Owners: stable, Pipelines: stable,
		Account: stable, Limits: newest, Library: newest, Segments: stable, Forms: "v3", Emails: stable, Campaigns: stable,
		Users: stable, Exports: stable, Webhooks: stable, Journal: stable,
	}
}

// withDefaults fills the families that were left empty.
func (v Versions) withDefaults() Versions {
	d := DefaultVersions()
	for _, f := range []struct{ have, fallback *string }{
		{&v.Objects, &d.Objects},
		{&v.Properties, &d.Properties},
		{&v.Schemas, &d.Schemas},
		{&v.Associations, &d.Associations},
		{&v.Owners, &d.Owners},
		{&v.Pipelines, &d.Pipelines},
		{&v.Account, &d.Account},
		{&v.Limits, &d.Limits},
		{&v.Library, &d.Library},
		{&v.Segments, &d.Segments},
		{&v.Forms, &d.Forms},
		{&v.Emails, &d.Emails},
		{&v.Campaigns, &d.Campaigns},
		{&v.Users, &d.Users},
		{&v.Exports, &d.Exports},
		{&v.Webhooks, &d.Webhooks},
		{&v.Journal, &d.Journal},
	} {
		if *f.have == "" {
			*f.have = *f.fallback
		}
	}
	return v
}

// dated says whether a version is of the form 2026-03 rather than v3.
func dated(version string) bool { return version != "" && version[0] != 'v' }

func (v Versions) objects() string { return crmPath("objects", v.Objects) }

func (v Versions) properties() string { return crmPath("properties", v.Properties) }

func (v Versions) owners() string { return crmPath("owners", v.Owners) }

func (v Versions) pipelines() string { return crmPath("pipelines", v.Pipelines) }

func (v Versions) limits() string { return crmPath("limits", v.Limits) }

func (v Versions) library() string { return crmPath("object-library", v.Library) }

func (v Versions) account() string { return "/account-info/" + v.Account }

func (v Versions) schemas() string {
	if dated(v.Schemas) {
		return "/crm-object-schemas/" + v.Schemas + "/schemas"
	}
	return "/crm/" + v.Schemas + "/schemas"
}

func (v Versions) associations() string {
	if dated(v.Associations) {
		return crmPath("associations", v.Associations)
	}
	return "/crm/v4/associations"
}

func (v Versions) segments() string { return crmPath("lists", v.Segments) }

func (v Versions) exports() string { return crmPath("exports", v.Exports) }

func (v Versions) users() string {
	if dated(v.Users) {
		return "/settings/users/" + v.Users
	}
	return "/settings/" + v.Users + "/users"
}

func (v Versions) forms() string { return marketingPath("forms", v.Forms) }

func (v Versions) emails() string { return marketingPath("emails", v.Emails) }

func (v Versions) campaigns() string { return marketingPath("campaigns", v.Campaigns) }

// webhooks moved in 2025-09 and in 2026-09, not in the version between.
func (v Versions) webhooks() string {
	if dated(v.Webhooks) && v.Webhooks != "2026-03" {
		return "/app-webhooks/" + v.Webhooks
	}
	return "/webhooks/" + v.Webhooks
}

func (v Versions) journal(part string) string {
	if dated(v.Journal) {
		return "/webhooks-journal/" + part + "/" + v.Journal
	}
	return "/webhooks/" + v.Journal + "/" + part
}

func marketingPath(family, version string) string {
	if dated(version) {
		return "/marketing/" + family + "/" + version
	}
	return "/marketing/" + version + "/" + family
}

// crmPath places the version after the family in dated paths and before it in numbered ones.
func crmPath(family, version string) string {
	if dated(version) {
		return "/crm/" + family + "/" + version
	}
	return "/crm/" + version + "/" + family
}
