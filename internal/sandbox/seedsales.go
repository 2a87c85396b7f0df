package sandbox

import "strconv"

func companyBlueprint() *blueprint {
	b := &blueprint{}
	b.group("companyinformation", "Company information")
	b.common()
	b.add("createdate|Create Date|datetime|date|r", 0, nil)
	b.add("name|Company name|string|text|f", 100, func(g *gen) []byte { return g.text(g.company) })
	b.add("domain|Company Domain Name|string|text|f", 95, func(g *gen) []byte { return g.text(g.domain) })
	b.add("website|Website URL|string|text|f", 90, func(g *gen) []byte { return g.text("https://www.", g.domain) })
	b.add("phone|Phone Number|string|phonenumber|f", 85, (*gen).phone)
	b.add("address|Street Address|string|text|f", 85, func(g *gen) []byte {
		return g.text(strconv.Itoa(1+g.n(240)), " ", g.pick(streets), " Street")
	})
	b.add("city|City|string|text|f", 95, func(g *gen) []byte { return g.text(cities[g.city].city) })
	b.add("state|State/Region|string|text|f", 90, func(g *gen) []byte { return g.text(cities[g.city].state) })
	b.add("zip|Postal Code|string|text|f", 90, func(g *gen) []byte { return g.text(cities[g.city].zip) })
	b.add("country|Country/Region|string|text|f", 95, func(g *gen) []byte { return g.text(cities[g.city].country) })
	b.add("timezone|Time Zone|string|text|", 90, func(g *gen) []byte { return g.text(cities[g.city].zone) })
	b.add("industry|Industry|enumeration|select|f|MACHINERY=Machinery,FOOD_BEVERAGES=Food & Beverages,LOGISTICS_AND_SUPPLY_CHAIN=Logistics and Supply Chain,"+
		"RENEWABLES_ENVIRONMENT=Renewables & Environment,COMPUTER_SOFTWARE=Computer Software,TEXTILES=Textiles,HOSPITAL_HEALTH_CARE=Hospital & Health Care", 90, nil)
	b.add("type|Type|enumeration|select|f|PROSPECT=Prospect,PARTNER=Partner,RESELLER=Reseller,VENDOR=Vendor,OTHER=Other", 80, nil)
	b.add("numberofemployees|Number of Employees|number|number|f", 85, func(g *gen) []byte { return g.integer(int64(1 + g.n(5000))) })
	b.add("annualrevenue|Annual Revenue|number|number|f", 75, func(g *gen) []byte { return g.integer(int64(g.n(9000)) * 10_000) })
	b.add("description|Description|string|textarea|f", 70, func(g *gen) []byte { return g.sentence(14) })
	b.add("founded_year|Year Founded|string|text|f", 60, func(g *gen) []byte { return g.integer(int64(1900 + g.n(125))) })
	b.add("is_public|Is Public|bool|booleancheckbox|f", 60, nil)
	b.add("lifecyclestage|Lifecycle Stage|enumeration|radio|f|subscriber=Subscriber,lead=Lead,marketingqualifiedlead=Marketing Qualified Lead,"+
		"salesqualifiedlead=Sales Qualified Lead,opportunity=Opportunity,customer=Customer,evangelist=Evangelist,other=Other", 100, nil)
	b.add("hs_lead_status|Lead Status|enumeration|radio|f|NEW=New,OPEN=Open,IN_PROGRESS=In Progress,UNQUALIFIED=Unqualified", 70, nil)
	b.add("hs_additional_domains|Additional Domains|enumeration|checkbox|x", 0, nil)
	b.add("hs_num_open_deals|Number of open deals|number|calculation_rollup|c", 90, func(g *gen) []byte { return g.integer(int64(g.n(4))) })
	b.add("num_associated_contacts|Number of Associated Contacts|number|calculation_rollup|c", 100, func(g *gen) []byte { return g.integer(int64(g.linkedCount)) })
	b.add("hs_analytics_num_page_views|Number of Pageviews|number|number|r", 80, nil)
	b.add("notes_last_contacted|Last Contacted|datetime|date|r", 70, nil)
	b.add("contract_ends_on|Contract ends on|date|date|s", 50, nil)
	b.add("service_level|Service level|enumeration|select|s|bronze=Bronze,silver=Silver,gold=Gold", 60, nil)
	b.add("regions_served|Regions served|enumeration|checkbox|s|emea=EMEA,amer=Americas,apac=APAC", 70, nil)
	b.add("vat_number|VAT number|string|text|s", 55, func(g *gen) []byte {
		return g.text(cities[g.city].countryCode, strconv.Itoa(100_000_000+g.n(899_999_999)))
	})
	return b
}

func dealBlueprint() *blueprint {
	b := &blueprint{}
	b.group("dealinformation", "Deal information")
	b.common()
	b.add("createdate|Create Date|datetime|date|r", 0, nil)
	b.add("dealname|Deal Name|string|text|f", 100, func(g *gen) []byte {
		return g.text(g.company, " – ", [...]string{"new machines", "service plan", "spare parts", "renewal", "training"}[g.n(5)])
	})
	b.add("amount|Amount|number|number|f", 92, func(g *gen) []byte { return g.cents(g.amount) })
	b.add("amount_in_home_currency|Amount in company currency|number|calculation_equation|c", 92, func(g *gen) []byte { return g.cents(g.amount) })
	b.add("deal_currency_code|Currency|enumeration|select|f|USD=US Dollar,EUR=Euro", 95, nil)
	b.add("pipeline|Pipeline|enumeration|select|f", 100, func(g *gen) []byte { return g.text(g.pipeline.id) })
	b.add("dealstage|Deal Stage|enumeration|radio|f", 100, func(g *gen) []byte { return g.text(g.stage.id) })
	b.add("hs_deal_stage_probability|Deal probability|number|number|c", 100, func(g *gen) []byte {
		if g.stage.meta("probability") == "0.2" {
			return g.text(predictions[0])
		}
		return g.text(g.stage.meta("probability"))
	})
	b.add("hs_is_closed|Is Deal Closed?|bool|calculation_equation|c", 100, func(g *gen) []byte { return g.boolean(g.stage.closed) })
	b.add("hs_is_closed_won|Is closed won|bool|calculation_equation|c", 100, func(g *gen) []byte { return g.boolean(g.stage.closed && g.stage.probability() == 1) })
	b.add("closedate|Close Date|datetime|date|f", 90, nil)
	b.add("dealtype|Deal Type|enumeration|radio|f|newbusiness=New Business,existingbusiness=Existing Business", 85, nil)
	b.add("hs_priority|Priority|enumeration|select|f|low=Low,medium=Medium,high=High", 60, nil)
	b.add("description|Deal Description|string|textarea|f", 50, func(g *gen) []byte { return g.sentence(10) })
	b.add("hs_next_step|Next step|string|text|f", 40, func(g *gen) []byte { return g.sentence(5) })
	b.add("closed_lost_reason|Closed Lost Reason|string|textarea|f", 15, func(g *gen) []byte { return g.sentence(6) })
	b.add("num_associated_contacts|Number of Associated Contacts|number|calculation_rollup|c", 90, func(g *gen) []byte { return g.integer(int64(1 + g.n(3))) })
	b.add("num_notes|Number of Sales Activities|number|number|r", 80, func(g *gen) []byte { return g.integer(int64(g.n(30))) })
	b.add("notes_last_contacted|Last Contacted|datetime|date|r", 70, nil)
	b.add("hs_forecast_amount|Forecast amount|number|number|f", 60, func(g *gen) []byte { return g.cents(g.amount) })
	b.add("hs_v2_time_in_current_stage|Time in current stage|datetime|date|c", 80, nil)
	b.add("hs_open_deal_create_date|Open deal create date|number|number|c", 50, func(g *gen) []byte { return g.integer(g.created) })
	b.add("delivery_on|Delivery on|date|date|s", 40, nil)
	b.add("margin_percent|Margin (%)|number|number|s", 55, func(g *gen) []byte { return g.cents(500 + g.n(4000)) })
	b.add("competitors|Competitors|enumeration|checkbox|s|northwind=Northwind,globex=Globex,initech=Initech", 35, nil)
	return b
}

func ticketBlueprint() *blueprint {
	b := &blueprint{}
	b.group("ticketinformation", "Ticket information")
	b.common()
	b.add("createdate|Create date|datetime|date|r", 0, nil)
	b.add("subject|Ticket name|string|text|f", 100, func(g *gen) []byte { return g.sentence(4) })
	b.add("content|Ticket description|string|textarea|f", 90, func(g *gen) []byte { return g.sentence(20) })
	b.add("hs_pipeline|Pipeline|enumeration|select|f", 100, func(g *gen) []byte { return g.text(g.pipeline.id) })
	b.add("hs_pipeline_stage|Ticket status|enumeration|radio|f", 100, func(g *gen) []byte { return g.text(g.stage.id) })
	b.add("hs_is_closed|Is closed|bool|calculation_equation|c", 100, func(g *gen) []byte { return g.boolean(g.stage.closed) })
	b.add("hs_ticket_priority|Priority|enumeration|select|f|LOW=Low,MEDIUM=Medium,HIGH=High,URGENT=Urgent", 85, nil)
	b.add("hs_ticket_category|Category|enumeration|checkbox|f|PRODUCT_ISSUE=Product Issue,BILLING_ISSUE=Billing Issue,FEATURE_REQUEST=Feature Request,GENERAL_INQUIRY=General Inquiry", 75, nil)
	b.add("source_type|Source|enumeration|select|f|CHAT=Chat,EMAIL=Email,FORM=Form,PHONE=Phone", 85, nil)
	b.add("closed_date|Close date|datetime|date|r", 45, nil)
	b.add("time_to_close|Time to close|number|number|c", 45, func(g *gen) []byte { return g.integer(int64(g.n(900_000_000))) })
	b.add("first_agent_reply_date|First agent email response date|datetime|date|r", 60, nil)
	b.add("machine_down|Machine is down|bool|booleancheckbox|s", 60, nil)
	return b
}

func productBlueprint() *blueprint {
	b := &blueprint{}
	b.group("productinformation", "Product information")
	b.common()
	b.add("createdate|Create Date|datetime|date|r", 0, nil)
	b.add("name|Name|string|text|f", 100, func(g *gen) []byte {
		return g.text(g.pick(companyHeads), " ", [...]string{"press", "lathe", "pump", "drive", "kit"}[g.n(5)])
	})
	b.add("description|Product description|string|textarea|f", 80, func(g *gen) []byte { return g.sentence(8) })
	b.add("price|Unit price|number|number|f", 100, func(g *gen) []byte { return g.cents(g.n(2_000_000)) })
	b.add("hs_cost_of_goods_sold|Unit cost|number|number|f", 70, func(g *gen) []byte { return g.cents(g.n(900_000)) })
	b.add("hs_sku|SKU|string|text|f", 95, func(g *gen) []byte { return g.text("SKU-", strconv.Itoa(1000+g.i)) })
	b.add("hs_product_type|Product type|enumeration|select|f|inventory=Inventory,non_inventory=Non-inventory,service=Service", 80, nil)
	b.add("hs_recurring_billing_period|Term|string|text|f", 20, func(g *gen) []byte { return g.text("P12M") })
	return b
}

func lineItemBlueprint() *blueprint {
	b := &blueprint{}
	b.group("lineiteminformation", "Line item information")
	b.common()
	b.add("createdate|Create Date|datetime|date|r", 0, nil)
	b.add("name|Name|string|text|f", 100, func(g *gen) []byte { return g.sentence(2) })
	b.add("quantity|Quantity|number|number|f", 100, func(g *gen) []byte { return g.integer(int64(1 + g.n(20))) })
	b.add("price|Unit price|number|number|f", 100, func(g *gen) []byte { return g.cents(g.n(2_000_000)) })
	b.add("amount|Net price|number|calculation_equation|c", 100, func(g *gen) []byte { return g.cents(g.n(9_000_000)) })
	b.add("discount|Unit discount|number|number|f", 20, func(g *gen) []byte { return g.cents(g.n(10_000)) })
	b.add("hs_product_id|Product ID|number|number|f", 80, nil)
	b.add("hs_sku|SKU|string|text|f", 80, func(g *gen) []byte { return g.text("SKU-", strconv.Itoa(1000+g.n(60))) })
	return b
}

func quoteBlueprint() *blueprint {
	b := &blueprint{}
	b.group("quoteinformation", "Quote information")
	b.common()
	b.add("hs_title|Quote title|string|text|f", 100, func(g *gen) []byte { return g.text("Quote for ", g.company) })
	b.add("hs_expiration_date|Expiration date|datetime|date|f", 100, nil)
	b.add("hs_status|Quote status|enumeration|select|f|DRAFT=Draft,APPROVAL_NOT_NEEDED=Published,PENDING_APPROVAL=Pending,REJECTED=Rejected", 100, nil)
	b.add("hs_quote_amount|Quote amount|number|number|r", 100, func(g *gen) []byte { return g.cents(g.n(9_000_000)) })
	b.add("hs_public_url_key|Public URL key|string|text|r", 90, func(g *gen) []byte { return g.text(strconv.FormatUint(g.next(), 36)) })
	return b
}
