package materialize

// standardLinks lists the pairs of HubSpot's own object types that are associated in practice, by type id. Custom
// objects bring their own with their schema.
func standardLinks() [][2]string {
	const (
		contacts, companies, deals, tickets  = "0-1", "0-2", "0-3", "0-5"
		lineItems, quotes, leads, orders     = "0-8", "0-14", "0-136", "0-123"
		invoices, subscriptions, payments    = "0-53", "0-69", "0-101"
		feedback, carts                      = "0-19", "0-142"
		services, courses, listings, appoint = "0-162", "0-410", "0-420", "0-421"
		projects                             = "0-970"
	)
	links := [][2]string{
		{contacts, companies},
		{deals, contacts},
		{deals, companies},
		{tickets, contacts},
		{tickets, companies},
		{tickets, deals},
		{lineItems, deals},
		{lineItems, quotes},
		{lineItems, invoices},
		{lineItems, orders},
		{lineItems, subscriptions},
		{lineItems, carts},
		{quotes, deals},
		{quotes, contacts},
		{quotes, companies},
		{leads, contacts},
		{leads, companies},
		{leads, deals},
		{orders, contacts},
		{orders, companies},
		{orders, deals},
		{invoices, contacts},
		{invoices, companies},
		{invoices, deals},
		{subscriptions, contacts},
		{subscriptions, companies},
		{subscriptions, deals},
		{payments, contacts},
		{payments, invoices},
		{payments, deals},
		{carts, contacts},
		{carts, orders},
		{feedback, contacts},
		{feedback, tickets},
	}
	for _, activity := range []string{"0-46", "0-27", "0-48", "0-49", "0-47", "0-18", "0-116"} {
		for _, subject := range []string{contacts, companies, deals, tickets} {
			links = append(links, [2]string{activity, subject})
		}
	}
	for _, optional := range []string{services, courses, listings, appoint, projects} {
		for _, subject := range []string{contacts, companies, deals} {
			links = append(links, [2]string{optional, subject})
		}
	}
	return links
}
