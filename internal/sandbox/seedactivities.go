package sandbox

import "strconv"

// activityBlueprint is what all activities share; each kind adds its own.
func activityBlueprint(kindName string) *blueprint {
	b := &blueprint{}
	b.group("engagement", "Activity information")
	b.common()
	b.add("hs_timestamp|Activity date|datetime|date|f", 100, nil)
	b.add("hs_body_preview|Body preview|string|text|r", 70, func(g *gen) []byte { return g.sentence(6) })
	switch kindName {
	case "notes":
		b.add("hs_note_body|Note body|string|html|f", 100, func(g *gen) []byte { return g.sentence(18) })
	case "tasks":
		b.add("hs_task_subject|Task title|string|text|f", 100, func(g *gen) []byte { return g.sentence(4) })
		b.add("hs_task_body|Task notes|string|html|f", 60, func(g *gen) []byte { return g.sentence(9) })
		b.add("hs_task_status|Task status|enumeration|select|f|NOT_STARTED=Not started,IN_PROGRESS=In progress,WAITING=Waiting,COMPLETED=Completed,DEFERRED=Deferred", 100, nil)
		b.add("hs_task_priority|Priority|enumeration|select|f|NONE=None,LOW=Low,MEDIUM=Medium,HIGH=High", 90, nil)
		b.add("hs_task_type|Task type|enumeration|select|f|TODO=To-do,CALL=Call,EMAIL=Email", 100, nil)
		b.add("hs_task_completion_date|Completed at|datetime|date|r", 40, nil)
	case "meetings":
		b.add("hs_meeting_title|Meeting name|string|text|f", 100, func(g *gen) []byte { return g.sentence(4) })
		b.add("hs_meeting_body|Meeting description|string|html|f", 60, func(g *gen) []byte { return g.sentence(9) })
		b.add("hs_meeting_start_time|Meeting start time|datetime|date|f", 100, nil)
		b.add("hs_meeting_end_time|Meeting end time|datetime|date|f", 100, nil)
		b.add("hs_meeting_outcome|Meeting outcome|enumeration|select|f|SCHEDULED=Scheduled,COMPLETED=Completed,NO_SHOW=No show,CANCELED=Canceled", 85, nil)
	case "calls":
		b.add("hs_call_title|Call title|string|text|f", 100, func(g *gen) []byte { return g.text("Call with ", g.first, " ", g.last) })
		b.add("hs_call_body|Call notes|string|html|f", 70, func(g *gen) []byte { return g.sentence(12) })
		b.add("hs_call_direction|Call direction|enumeration|select|f|INBOUND=Inbound,OUTBOUND=Outbound", 100, nil)
		b.add("hs_call_duration|Call duration|number|number|f", 90, func(g *gen) []byte { return g.integer(int64(g.n(3_600_000))) })
		b.add("hs_call_status|Call status|enumeration|select|f|COMPLETED=Completed,NO_ANSWER=No answer,BUSY=Busy,FAILED=Failed", 95, nil)
		b.add("hs_call_to_number|To number|string|phonenumber|f", 80, (*gen).phone)
	case "emails":
		b.add("hs_email_subject|Email subject|string|text|f", 100, func(g *gen) []byte { return g.sentence(5) })
		b.add("hs_email_text|Email body|string|textarea|f", 90, func(g *gen) []byte { return g.sentence(30) })
		b.add("hs_email_direction|Email direction|enumeration|select|f|EMAIL=Outgoing,INCOMING_EMAIL=Incoming,FORWARDED_EMAIL=Forwarded", 100, nil)
		b.add("hs_email_status|Email send status|enumeration|select|f|SENT=Sent,BOUNCED=Bounced,SCHEDULED=Scheduled", 90, nil)
	case "communications":
		b.add("hs_communication_body|Body|string|html|f", 100, func(g *gen) []byte { return g.sentence(10) })
		b.add("hs_communication_channel_type|Channel type|enumeration|select|f|WHATS_APP=WhatsApp,LINKEDIN_MESSAGE=LinkedIn,SMS=SMS", 100, nil)
		b.add("hs_communication_logged_from|Logged from|enumeration|select|f|CRM=CRM", 100, nil)
	case "postal_mail":
		b.add("hs_postal_mail_body|Body|string|html|f", 100, func(g *gen) []byte { return g.sentence(10) })
	}
	return b
}

// plainBlueprint is a type of which the sandbox knows little: its display property, and a stage where
// the type has pipelines.
func plainBlueprint(k *kind) *blueprint {
	b := &blueprint{}
	b.group(k.name+"_information", k.label+" information")
	b.common()
	if k.createdProp == "createdate" {
		b.add("createdate|Create date|datetime|date|r", 0, nil)
	}
	text := func(g *gen) []byte { return g.text(g.company, " ", strconv.Itoa(g.i+1)) }
	if k.display != "" {
		b.add(k.display+"|"+k.label+" name|string|text|f", 100, text)
	}
	b.add("hs_external_id|External ID|string|text|", 50, text)
	for _, names := range k.required {
		for _, name := range names {
			if name != k.display {
				b.add(name+"|"+name+"|string|text|", 100, nil)
			}
		}
	}
	switch k.name {
	case "leads", "orders", "services", "courses", "listings", "appointments", "projects":
		b.add("hs_pipeline|Pipeline|enumeration|select|fx", 100, func(g *gen) []byte {
			if g.pipeline == nil {
				return nil
			}
			return g.text(g.pipeline.id)
		})
		b.add("hs_pipeline_stage|Pipeline stage|enumeration|radio|fx", 100, func(g *gen) []byte {
			if g.pipeline == nil {
				return nil
			}
			return g.text(g.stage.id)
		})
	}
	return b
}

// machineAssociations are the types that the account's custom object is associated with.
var machineAssociations = []string{"contacts", "companies", "deals", "tickets"}

func machineBlueprint() *blueprint {
	b := &blueprint{}
	b.group("machines_information", "Machine Information")
	b.common()
	b.add("serial_number|Serial number|string|text|su", 100, func(g *gen) []byte {
		g.buf = append(g.buf[:0], "MX-"...)
		g.buf = appendPadded(g.buf, 100_000+g.i, 7)
		return g.buf
	})
	b.add("model|Model|enumeration|select|s|MX100,MX200,MX250 Pro,LT9", 100, nil)
	b.add("status|Status|enumeration|select|s|in_service=In service,maintenance=Maintenance,down=Down,retired=Retired", 100, nil)
	b.add("installed_on|Installed on|date|date|s", 90, nil)
	b.add("last_service_at|Last service|datetime|date|s", 80, nil)
	b.add("operating_hours|Operating hours|number|number|s", 95, func(g *gen) []byte { return g.cents(g.n(4_000_000)) })
	b.add("under_warranty|Under warranty|bool|booleancheckbox|s", 90, nil)
	b.add("features|Features|enumeration|checkbox|s|cooling=Cooling,remote=Remote control,autoload=Autoload", 70, nil)
	b.add("site_notes|Site notes|string|textarea|s", 40, func(g *gen) []byte { return g.sentence(9) })
	return b
}
