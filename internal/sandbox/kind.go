package sandbox

// kind is what HubSpot knows about an object type apart from its properties and records.
type kind struct {
	typeID   string
	name     string // path segment: the plural
	singular string
	label    string
	plural   string // plural label
	alias    string // another path segment that works

	createdProp  string
	modifiedProp string
	display      string
	scope        string // crm.objects.<scope>.read
	defaults     []string
	query        []string   // properties that a search's free text looks at
	required     [][]string // of each group at least one must be set to create

	merges      bool
	unsearched  bool // no search endpoint
	readOnly    bool // no writes by API
	activatable bool // listed by the object library
	inactive    bool
	custom      bool
	fqn         string // fully qualified name of a custom type

	requiredList   []string // schema.requiredProperties
	searchableList []string
	schemaID       string
	createdAt      int64
	updatedAt      int64
}

// engagementScope gates all activities.
const engagementScope = "contacts"

func standardKinds() []*kind {
	hsDefaults := []string{"hs_createdate", "hs_lastmodifieddate", "hs_object_id"}
	plain := func(typeID, name, singular, label, plural, display, scope string) *kind {
		return &kind{
			typeID: typeID, name: name, singular: singular, label: label, plural: plural, display: display,
			scope: scope, createdProp: "hs_createdate", modifiedProp: "hs_lastmodifieddate", defaults: hsDefaults,
		}
	}
	activity := func(typeID, name, singular, label, plural, display string, required ...string) *kind {
		k := plain(typeID, name, singular, label, plural, display, engagementScope)
		for _, r := range append([]string{"hs_timestamp"}, required...) {
			k.required = append(k.required, []string{r})
		}
		k.query = []string{display}
		return k
	}
	library := func(typeID, name, singular, label, plural, display string, active bool) *kind {
		k := plain(typeID, name, singular, label, plural, display, name)
		k.merges, k.activatable, k.inactive = true, true, !active
		k.required = [][]string{{display}}
		return k
	}
	needs := func(k *kind, names ...string) *kind {
		for _, n := range names {
			k.required = append(k.required, []string{n})
		}
		return k
	}

	contacts := &kind{
		typeID: "0-1", name: "contacts", singular: "contact", label: "Contact", plural: "Contacts",
		createdProp: "createdate", modifiedProp: "lastmodifieddate", display: "firstname", scope: "contacts",
		defaults: []string{"createdate", "email", "firstname", "hs_object_id", "lastmodifieddate", "lastname"},
		query:    []string{"firstname", "lastname", "email", "phone", "hs_additional_emails", "fax", "mobilephone", "company"},
		required: [][]string{{"email", "firstname", "lastname"}}, merges: true,
	}
	companies := &kind{
		typeID: "0-2", name: "companies", singular: "company", label: "Company", plural: "Companies",
		createdProp: "createdate", modifiedProp: "hs_lastmodifieddate", display: "name", scope: "companies",
		defaults: []string{"name", "domain", "createdate", "hs_lastmodifieddate", "hs_object_id"},
		query:    []string{"website", "phone", "name", "domain"},
		required: [][]string{{"name", "domain"}}, merges: true,
	}
	deals := &kind{
		typeID: "0-3", name: "deals", singular: "deal", label: "Deal", plural: "Deals",
		createdProp: "createdate", modifiedProp: "hs_lastmodifieddate", display: "dealname", scope: "deals",
		defaults: []string{
			"dealname", "amount", "closedate", "pipeline", "dealstage",
			"createdate", "hs_lastmodifieddate", "hs_object_id",
		},
		query:    []string{"dealname", "pipeline", "dealstage", "description", "dealtype"},
		required: [][]string{{"dealname"}, {"dealstage"}, {"pipeline"}}, merges: true,
	}
	tickets := &kind{
		typeID: "0-5", name: "tickets", singular: "ticket", label: "Ticket", plural: "Tickets",
		createdProp: "createdate", modifiedProp: "hs_lastmodifieddate", display: "subject", scope: "tickets",
		defaults: []string{
			"subject", "content", "hs_pipeline", "hs_pipeline_stage", "hs_ticket_category",
			"hs_ticket_priority", "createdate", "hs_lastmodifieddate", "hs_object_id",
		},
		query:    []string{"subject", "content", "hs_pipeline_stage", "hs_ticket_category"},
		required: [][]string{{"subject"}, {"hs_pipeline"}, {"hs_pipeline_stage"}}, merges: true,
	}
	products := &kind{
		typeID: "0-7", name: "products", singular: "product", label: "Product", plural: "Products",
		createdProp: "createdate", modifiedProp: "hs_lastmodifieddate", display: "name", scope: "products",
		defaults: []string{"name", "description", "price", "createdate", "hs_lastmodifieddate", "hs_object_id"},
		query:    []string{"name", "description", "price", "hs_sku"}, required: [][]string{{"name"}},
	}
	lineItems := &kind{
		typeID: "0-8", name: "line_items", singular: "line_item", label: "Line item", plural: "Line items",
		createdProp: "createdate", modifiedProp: "hs_lastmodifieddate", display: "name", scope: "line_items",
		defaults: []string{"quantity", "amount", "price", "createdate", "hs_lastmodifieddate", "hs_object_id"},
	}
	quotes := plain("0-14", "quotes", "quote", "Quote", "Quotes", "hs_title", "quotes")
	quotes.defaults = []string{
		"hs_expiration_date", "hs_public_url_key", "hs_status", "hs_title",
		"hs_createdate", "hs_lastmodifieddate", "hs_object_id",
	}
	needs(quotes, "hs_title", "hs_expiration_date")
	feedback := plain("0-19", "feedback_submissions", "feedback_submission", "Feedback submission",
		"Feedback submissions", "hs_submission_name", "feedback_submissions")
	feedback.readOnly = true
	payments := plain("0-101", "commerce_payments", "commerce_payment", "Payment", "Payments",
		"hs_payment_id", "commercepayments")
	goals := plain("0-74", "goal_targets", "goal_target", "Goal target", "Goal targets", "hs_goal_name", "goals")
	goals.alias = "goals"
	orders := needs(plain("0-123", "orders", "order", "Order", "Orders", "hs_order_name", "orders"), "hs_order_name")
	orders.merges = true

	return []*kind{
		contacts, companies, deals, tickets, products, lineItems, quotes,
		activity("0-18", "communications", "communication", "Communication", "Communications",
			"hs_communication_body", "hs_communication_channel_type"),
		feedback,
		activity("0-27", "tasks", "task", "Task", "Tasks", "hs_task_subject"),
		activity("0-46", "notes", "note", "Note", "Notes", "hs_note_body"),
		activity("0-47", "meetings", "meeting", "Meeting", "Meetings", "hs_meeting_title"),
		activity("0-48", "calls", "call", "Call", "Calls", "hs_call_title"),
		activity("0-49", "emails", "email", "Email", "Emails", "hs_email_subject", "hs_email_direction"),
		needs(plain("0-53", "invoices", "invoice", "Invoice", "Invoices", "hs_number", "invoices"), "hs_currency"),
		plain("0-69", "subscriptions", "subscription", "Subscription", "Subscriptions", "hs_name", "subscriptions"),
		goals,
		plain("0-84", "discounts", "discount", "Discount", "Discounts", "hs_label", "line_items"),
		plain("0-85", "fees", "fee", "Fee", "Fees", "hs_label", "line_items"),
		plain("0-86", "taxes", "tax", "Tax", "Taxes", "hs_label", "line_items"),
		payments,
		needs(plain("0-115", "users", "user", "User", "Users", "hs_email", "users"), "hs_internal_user_id", "hs_email"),
		activity("0-116", "postal_mail", "postal_mail", "Postal mail", "Postal mail", "hs_postal_mail_body"),
		orders,
		needs(plain("0-136", "leads", "lead", "Lead", "Leads", "hs_lead_name", "leads"), "hs_lead_name"),
		plain("0-142", "carts", "cart", "Cart", "Carts", "hs_cart_name", "carts"),
		library("0-162", "services", "service", "Service", "Services", "hs_name", false),
		library("0-410", "courses", "course", "Course", "Courses", "hs_course_name", false),
		library("0-420", "listings", "listing", "Listing", "Listings", "hs_name", false),
		library("0-421", "appointments", "appointment", "Appointment", "Appointments", "hs_appointment_name", true),
		library("0-970", "projects", "project", "Project", "Projects", "hs_name", false),
	}
}
