package sandbox

import "strconv"

// commonProperties are what every type has.
func commonProperties(groupName string) []PropertyDef {
	b := &blueprint{groups: []group{{name: groupName}}}
	b.common()
	out := make([]PropertyDef, len(b.props))
	for i, p := range b.props {
		out[i] = p.def
	}
	return out
}

func (b *blueprint) common() {
	b.add("hs_object_id|Record ID|number|number|r", 0, nil)
	b.add("hs_createdate|Object create date/time|datetime|date|r", 0, nil)
	b.add("hs_lastmodifieddate|Object last modified date/time|datetime|date|r", 0, nil)
	b.add("hs_object_source|Record creation source|string|text|r", 100, func(g *gen) []byte {
		return g.text([...]string{"CRM_UI", "INTEGRATION", "IMPORT", "FORM"}[g.n(4)])
	})
	b.add("hs_object_source_label|Record source|string|text|r", 100, func(g *gen) []byte {
		return g.text([...]string{"CRM_UI", "INTEGRATION", "IMPORT", "FORM"}[g.n(4)])
	})
	b.add("hs_created_by_user_id|Created by user ID|number|number|r", 80, func(g *gen) []byte {
		return g.integer(g.owners[g.n(len(g.owners))].userID)
	})
	b.add("hs_updated_by_user_id|Updated by user ID|number|number|r", 80, func(g *gen) []byte {
		return g.integer(g.owners[g.n(len(g.owners))].userID)
	})
	b.add("hs_merged_object_ids|Merged record IDs|enumeration|checkbox|rx", 0, nil)
	b.add("hubspot_owner_id|Owner|enumeration|select|o", 85, (*gen).owner)
	b.add("hubspot_owner_assigneddate|Owner assigned date|datetime|date|r", 85, nil)
}

func contactBlueprint() *blueprint {
	b := &blueprint{}
	b.group("contactinformation", "Contact information")
	b.common()
	b.add("createdate|Create Date|datetime|date|r", 0, nil)
	b.add("lastmodifieddate|Last Modified Date|datetime|date|r", 0, nil)
	b.add("email|Email|string|text|uf", 97, func(g *gen) []byte {
		g.buf = g.buf[:0]
		g.buf = appendASCII(g.buf, g.first)
		g.buf = append(g.buf, '.')
		g.buf = appendASCII(g.buf, g.last)
		g.buf = strconv.AppendInt(g.buf, int64(g.i), 36)
		g.buf = append(g.buf, '@')
		return append(g.buf, g.domain...)
	})
	b.add("firstname|First Name|string|text|f", 98, func(g *gen) []byte { return g.text(g.first) })
	b.add("lastname|Last Name|string|text|f", 97, func(g *gen) []byte { return g.text(g.last) })
	b.add("salutation|Salutation|string|text|f", 40, func(g *gen) []byte { return g.text([...]string{"Ms", "Mr", "Dr"}[g.n(3)]) })
	b.add("jobtitle|Job Title|string|text|f", 85, func(g *gen) []byte { return g.text(g.pick(jobTitles)) })
	b.add("company|Company Name|string|text|f", 90, func(g *gen) []byte { return g.text(g.company) })
	b.add("website|Website URL|string|text|f", 75, func(g *gen) []byte { return g.text("https://www.", g.domain) })
	b.add("phone|Phone Number|string|phonenumber|f", 85, (*gen).phone)
	b.add("mobilephone|Mobile Phone Number|string|phonenumber|f", 60, (*gen).phone)
	b.add("fax|Fax Number|string|phonenumber|f", 5, (*gen).phone)
	b.add("whatsapp_number|WhatsApp Phone Number|phone_number|phonenumber|sf", 30, nil)
	b.add("address|Street Address|string|text|f", 80, func(g *gen) []byte {
		return g.text(strconv.Itoa(1+g.n(240)), " ", g.pick(streets), " Street")
	})
	b.add("city|City|string|text|f", 90, func(g *gen) []byte { return g.text(cities[g.city].city) })
	b.add("state|State/Region|string|text|f", 85, func(g *gen) []byte { return g.text(cities[g.city].state) })
	b.add("hs_state_code|State/Region Code|string|text|", 80, func(g *gen) []byte { return g.text(cities[g.city].stateCode) })
	b.add("zip|Postal Code|string|text|f", 80, func(g *gen) []byte { return g.text(cities[g.city].zip) })
	b.add("country|Country/Region|string|text|f", 92, func(g *gen) []byte { return g.text(cities[g.city].country) })
	b.add("hs_country_region_code|Country/Region Code|string|text|", 90, func(g *gen) []byte { return g.text(cities[g.city].countryCode) })
	b.add("hs_timezone|Time Zone|string|text|", 85, func(g *gen) []byte { return g.text(cities[g.city].zone) })
	b.add("hs_language|Preferred language|enumeration|select|f|en=English,de=German,fr=French,es=Spanish,pt=Portuguese,sv=Swedish,ja=Japanese", 75, nil)
	b.add("date_of_birth|Date of birth|date|date|s", 35, func(g *gen) []byte {
		g.buf = appendDay(g.buf[:0], int64(g.n(14_000))*86_400_000+1)
		return g.buf
	})
	b.add("industry|Industry|string|text|f", 75, func(g *gen) []byte { return g.text(g.pick(companyTails)) })
	b.add("numemployees|Number of Employees|enumeration|select|f|1-5,5-25,25-50,50-100,100-500,500-1000,1000+", 70, nil)
	b.add("annualrevenue|Annual Revenue|string|text|f", 50, func(g *gen) []byte { return g.integer(int64(g.n(900)) * 10_000) })
	b.add("message|Message|string|textarea|f", 25, func(g *gen) []byte {
		g.buf = g.sentence(12)
		return append(append(g.buf, '\n'), "\"thank you\""...)
	})
	b.add("hs_additional_emails|Additional email addresses|enumeration|checkbox|x", 0, nil)
	b.add("hs_all_contact_vids|Merged contact IDs|enumeration|checkbox|rx", 0, nil)
	b.add("hs_calculated_merged_vids|Merged contact IDs with timestamps|enumeration|checkbox|cx", 0, nil)
	b.add("hs_email_domain|Email Domain|string|text|c", 97, func(g *gen) []byte { return g.text(g.domain) })
	b.add("associatedcompanyid|Primary Associated Company ID|number|number|c", 100, func(g *gen) []byte {
		if g.linked == 0 {
			return nil
		}
		return g.integer(g.linked)
	})
	b.add("num_associated_deals|Number of Associated Deals|number|number|c", 60, func(g *gen) []byte { return g.integer(int64(g.n(4))) })
	b.add("hs_full_name_or_email|Full name or email|string|calculation_equation|c", 98, func(g *gen) []byte { return g.text(g.first, " ", g.last) })

	b.group("lifecycle", "Lifecycle")
	b.add("lifecyclestage|Lifecycle Stage|enumeration|radio|f|subscriber=Subscriber,lead=Lead,marketingqualifiedlead=Marketing Qualified Lead,"+
		"salesqualifiedlead=Sales Qualified Lead,opportunity=Opportunity,customer=Customer,evangelist=Evangelist,other=Other", 100, nil)
	b.add("hs_lead_status|Lead Status|enumeration|radio|f|NEW=New,OPEN=Open,IN_PROGRESS=In Progress,OPEN_DEAL=Open Deal,UNQUALIFIED=Unqualified,"+
		"ATTEMPTED_TO_CONTACT=Attempted to Contact,CONNECTED=Connected,BAD_TIMING=Bad Timing", 80, nil)
	b.add("hs_lifecyclestage_lead_date|Became a Lead Date|datetime|date|r", 90, func(g *gen) []byte { return g.integer(g.between(g.created, g.updated)) })
	b.add("hs_lifecyclestage_customer_date|Became a Customer Date|datetime|date|r", 30, nil)
	b.add("hs_is_contact|Is a contact|bool|booleancheckbox|r", 100, func(g *gen) []byte { return g.text("true") })
	b.add("hs_is_unworked|Contact unworked|bool|calculation_equation|c", 100, nil)
	b.add("hs_marketable_status|Marketing contact status|enumeration|booleancheckbox|r", 100, nil)
	b.add("hs_email_optout|Unsubscribed from all email|bool|booleancheckbox|r", 30, nil)
	b.add("hs_legal_basis|Legal basis for processing|enumeration|checkbox|f|Legitimate interest – existing customer,Performance of a contract,"+
		"Freely given consent from contact,Not applicable", 70, nil)
	b.add("interests|Interests|enumeration|checkbox|sf|spare_parts=Spare parts,training=Training,leasing=Leasing,service_plan=Service plan,new_machines=New machines", 75, nil)
	b.add("newsletter|Newsletter|bool|booleancheckbox|sf", 70, nil)
	b.add("credit_limit|Credit limit|number|number|s", 60, func(g *gen) []byte { return g.cents(g.n(5_000_000)) })
	b.add("loyalty_points|Loyalty points|number|number|s", 65, nil)
	b.add("customer_since|Customer since|date|date|s", 50, nil)
	b.add("next_review_at|Next review|datetime|date|s", 45, nil)
	b.add("erp_number|ERP number|string|text|su", 80, func(g *gen) []byte {
		g.buf = append(g.buf[:0], "C-"...)
		g.buf = appendPadded(g.buf, 10_000_000+g.i, 8)
		return g.buf
	})
	b.add("preferred_contact_time|Preferred contact time|enumeration|select|s|morning=Morning,noon=Noon,afternoon=Afternoon,evening=Evening", 60, nil)

	b.group("analyticsinformation", "Web analytics")
	b.add("hs_analytics_source|Original Traffic Source|enumeration|select|r|ORGANIC_SEARCH=Organic Search,PAID_SEARCH=Paid Search,EMAIL_MARKETING=Email Marketing,"+
		"SOCIAL_MEDIA=Organic Social,REFERRALS=Referrals,DIRECT_TRAFFIC=Direct Traffic,OFFLINE=Offline Sources", 100, nil)
	b.add("hs_analytics_source_data_1|Original Traffic Source Drill-Down 1|string|text|r", 90, func(g *gen) []byte { return g.text(g.pick(pages)) })
	b.add("hs_latest_source|Latest Traffic Source|enumeration|select|r|ORGANIC_SEARCH=Organic Search,PAID_SEARCH=Paid Search,EMAIL_MARKETING=Email Marketing,"+
		"REFERRALS=Referrals,DIRECT_TRAFFIC=Direct Traffic,OFFLINE=Offline Sources", 95, nil)
	b.add("hs_analytics_first_url|First Page Seen|string|text|r", 85, func(g *gen) []byte { return g.text("https://www.example.com/", g.pick(pages)) })
	b.add("hs_analytics_last_url|Last Page Seen|string|text|r", 85, func(g *gen) []byte { return g.text("https://www.example.com/", g.pick(pages)) })
	b.add("hs_analytics_num_page_views|Number of Pageviews|number|number|r", 100, nil)
	b.add("hs_analytics_num_visits|Number of Sessions|number|number|r", 100, func(g *gen) []byte { return g.integer(int64(g.n(60))) })
	b.add("hs_analytics_first_timestamp|Time First Seen|datetime|date|r", 100, nil)
	b.add("hs_analytics_last_timestamp|Time Last Seen|datetime|date|r", 95, nil)
	b.add("hs_analytics_average_page_views|Average Pageviews|number|number|r", 100, func(g *gen) []byte { return g.text(strconv.Itoa(g.n(9)), ".0") })
	b.add("hs_predictivecontactscore_v2|Likelihood to close|number|number|r", 80, func(g *gen) []byte {
		return g.text(predictions[g.n(len(predictions))])
	})
	b.add("hubspotscore|HubSpot Score|number|calculation_score|c", 100, func(g *gen) []byte { return g.integer(int64(g.n(100))) })

	b.group("emailinformation", "Email information")
	b.add("hs_email_delivered|Marketing emails delivered|number|number|r", 90, func(g *gen) []byte { return g.integer(int64(g.n(50))) })
	b.add("hs_email_open|Marketing emails opened|number|number|r", 85, func(g *gen) []byte { return g.integer(int64(g.n(30))) })
	b.add("hs_email_click|Marketing emails clicked|number|number|r", 80, func(g *gen) []byte { return g.integer(int64(g.n(10))) })
	b.add("hs_email_last_send_date|Last marketing email send date|datetime|date|r", 90, nil)
	b.add("hs_email_last_open_date|Last marketing email open date|datetime|date|r", 70, nil)
	b.add("hs_email_last_email_name|Last marketing email name|string|text|r", 85, func(g *gen) []byte { return g.sentence(3) })
	b.add("num_conversion_events|Number of Form Submissions|number|number|r", 95, func(g *gen) []byte { return g.integer(int64(g.n(6))) })
	b.add("recent_conversion_event_name|Recent Conversion|string|text|r", 75, func(g *gen) []byte { return g.sentence(3) })
	b.add("recent_conversion_date|Recent Conversion Date|datetime|date|r", 75, nil)

	b.group("sales_properties", "Sales properties")
	b.add("notes_last_contacted|Last Contacted|datetime|date|r", 80, nil)
	b.add("notes_last_updated|Last Activity Date|datetime|date|r", 85, nil)
	b.add("notes_next_activity_date|Next Activity Date|datetime|date|r", 25, nil)
	b.add("num_notes|Number of Sales Activities|number|number|r", 90, func(g *gen) []byte { return g.integer(int64(g.n(40))) })
	b.add("num_contacted_notes|Number of times contacted|number|number|r", 90, func(g *gen) []byte { return g.integer(int64(g.n(20))) })
	b.add("hs_sequences_is_enrolled|Currently in sequence|bool|booleancheckbox|r", 55, nil)
	b.add("hs_time_to_first_engagement|Lead response time|number|number|r", 70, func(g *gen) []byte { return g.integer(int64(g.n(1_000_000_000))) })
	b.add("days_to_close|Days To Close|number|number|c", 30, func(g *gen) []byte { return g.integer(int64(g.n(200))) })
	b.add("total_revenue|Total Revenue|number|calculation_rollup|c", 40, func(g *gen) []byte { return g.cents(g.n(50_000_000)) })
	return b
}

// predictions are full binary expansions, as HubSpot prints some numbers.
var predictions = []string{
	"0.200000000000000011102230246251565404236316680908203125",
	"0.59999999999999997779553950749686919152736663818359375", "12.5", "0.0", "3.14",
}

// appendASCII appends s in lower case without what cannot be in an address.
func appendASCII(dst []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'A' && c <= 'Z':
			dst = append(dst, c+32)
		case c >= 'a' && c <= 'z':
			dst = append(dst, c)
		}
	}
	return dst
}
