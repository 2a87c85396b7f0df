package sandbox

import (
	"slices"
	"strings"
)

// developerScopes begin the scopes that belong to an app and not to an account: only client credentials have them.
const developerScopes = "developer."

var journalScopes = [...]string{
	"developer.webhooks_journal.read",
	"developer.webhooks_journal.subscriptions.read",
	"developer.webhooks_journal.subscriptions.write",
	"developer.webhooks_journal.snapshots.read",
	"developer.webhooks_journal.snapshots.write",
}

var otherScopes = [...]string{
	"oauth", "tickets", "e-commerce", "forms", "content", "automation", "crm.export", "crm.import",
	"crm.lists.read", "crm.lists.write", "crm.objects.owners.read", "crm.objects.custom.read",
	"crm.objects.custom.write", "crm.schemas.custom.read", "crm.schemas.custom.write", "custom-object-read",
	"marketing.campaigns.read", "settings.users.read", "settings.users.teams.read", "multi-currency-read",
	"sales-email-read",
}

// accountScopes are all scopes an account can grant, sorted.
func accountScopes() []string {
	scopes := slices.Clone(otherScopes[:])
	for _, k := range standardKinds() {
		scopes = append(scopes, k.readScope(), k.writeScope(), k.schemaScope(), k.schemaWriteScope())
	}
	slices.Sort(scopes)
	return slices.Compact(scopes)
}

// legacyScope is the broad scope that includes a granular one, empty when there is none.
func legacyScope(scope string) string {
	parts := strings.Split(scope, ".")
	if len(parts) != 4 || parts[0] != "crm" {
		return ""
	}
	switch parts[2] {
	case "tickets":
		return "tickets"
	case "products", "line_items":
		return "e-commerce"
	default:
		return ""
	}
}
