package hubapi

// ObjectType is one of HubSpot's own object types.
type ObjectType struct {
	Name             string // plural; the segment of paths
	Singular         string
	TypeID           string
	CreatedProperty  string
	ModifiedProperty string // of searches; contacts have one of their own
	Searchable       bool
	ReadScope        string // what a token needs to read it
	Pipelines        bool   // its records move through pipelines
	Optional         bool   // has to be switched on in the account's object library
}

// StandardTypes returns HubSpot's object types whose records can be listed. The slice belongs to the caller.
func StandardTypes() []ObjectType {
	const (
		contacts = "crm.objects.contacts.read" // activities have no scope of their own
		commerce = "e-commerce"
	)
	object := func(typeID, name, singular, scope string) ObjectType {
		return ObjectType{
			Name: name, Singular: singular, TypeID: typeID, Searchable: true, ReadScope: scope,
			CreatedProperty: "hs_createdate", ModifiedProperty: "hs_lastmodifieddate",
		}
	}
	types := []ObjectType{
		object("0-1", "contacts", "contact", contacts),
		object("0-2", "companies", "company", "crm.objects.companies.read"),
		object("0-3", "deals", "deal", "crm.objects.deals.read"),
		object("0-5", "tickets", "ticket", "tickets"),
		object("0-7", "products", "product", commerce),
		object("0-8", "line_items", "line_item", "crm.objects.line_items.read"),
		object("0-14", "quotes", "quote", "crm.objects.quotes.read"),
		object("0-18", "communications", "communication", contacts),
		object("0-19", "feedback_submissions", "feedback_submission", "crm.objects.feedback_submissions.read"),
		object("0-27", "tasks", "task", contacts),
		object("0-46", "notes", "note", contacts),
		object("0-47", "meetings", "meeting", contacts),
		object("0-48", "calls", "call", contacts),
		object("0-49", "emails", "email", contacts),
		object("0-53", "invoices", "invoice", "crm.objects.invoices.read"),
		object("0-69", "subscriptions", "subscription", "crm.objects.subscriptions.read"),
		object("0-74", "goal_targets", "goal_target", "crm.objects.goals.read"),
		object("0-84", "discounts", "discount", "crm.objects.line_items.read"),
		object("0-85", "fees", "fee", "crm.objects.line_items.read"),
		object("0-86", "taxes", "tax", "crm.objects.line_items.read"),
		object("0-101", "commerce_payments", "commerce_payment", "crm.objects.commercepayments.read"),
		object("0-115", "users", "user", "crm.objects.users.read"),
		object("0-116", "postal_mail", "postal_mail", contacts),
		object("0-123", "orders", "order", "crm.objects.orders.read"),
		object("0-136", "leads", "lead", "crm.objects.leads.read"),
		object("0-142", "carts", "cart", "crm.objects.carts.read"),
		object("0-162", "services", "service", "crm.objects.services.read"),
		object("0-410", "courses", "course", "crm.objects.courses.read"),
		object("0-420", "listings", "listing", "crm.objects.listings.read"),
		object("0-421", "appointments", "appointment", "crm.objects.appointments.read"),
		object("0-970", "projects", "project", "crm.objects.projects.read"),
	}
	for i := range types {
		switch t := &types[i]; t.Name {
		case "contacts":
			// Contacts declare hs_lastmodifieddate too, but a search by it finds nothing.
			t.CreatedProperty, t.ModifiedProperty = "createdate", "lastmodifieddate"
		case "deals", "tickets":
			t.CreatedProperty, t.Pipelines = "createdate", true
		case "companies", "products", "line_items":
			t.CreatedProperty = "createdate"
		case "leads", "orders":
			t.Pipelines = true
		case "services", "courses", "listings", "appointments":
			t.Pipelines, t.Optional = true, true
		case "projects":
			t.Optional = true
		}
	}
	return types
}
