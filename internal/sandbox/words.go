package sandbox

import "strings"

// Words that generated records are made of.
var (
	firstNames = strings.Fields(`Ada Aisha Alejandro Amara Anders Anna Arjun Astrid Beatriz Ben Brigitte Carlos Chen
		Chloé Clara Daniel Dimitri Elena Elif Emeka Emma Ethan Fatima Felix Freya Gabriel Grace Hana Hannah Henrik Hugo
		Ines Isla Ivan Jack Jamal Jana João Jonas Julia Kaito Karin Kofi Lars Laura Leila Liam Lucía Luka Maja Malik Marco
		Maria Mateo Maya Mei Mila Mina Mohammed Nadia Naomi Niklas Nina Noah Nora Olga Oliver Omar Oscar Paolo Paula Petra
		Priya Quinn Rafael Ravi Rosa Ruth Sam Sara Seán Sofia Stefan Tariq Theo Tomás Uma Valentina Victor Wei Yara Yusuf Zoë`)
	lastNames = strings.Fields(`Abe Adeyemi Ahmed Almeida Andersen Bauer Becker Bianchi Brown Castro Chen Cohen Costa Dahl
		Diaz Dubois Eriksson Evans Fernández Fischer Fontaine Garcia Georgiou Gupta Haddad Hansen Hassan Hoffmann Ivanov Jansen
		Johnson Jones Kaya Keller Khan Kim Kowalski Kumar Larsen Lee Lindqvist Lopez Martin Mendes Meyer Moreau Müller Nakamura
		Nguyen Nielsen Novak Nowak O'Brien Okafor Olsen Osei Park Patel Pereira Petrov Popescu Ramirez Rossi Ryan Sato Schmidt
		Schneider Silva Singh Smith Sokolov Suzuki Svensson Tanaka Taylor Torres Tran Usman Vargas Visser Walker Wang Weber
		Williams Wilson Wong Yamamoto Yilmaz Young Zhang Zimmermann`)
	companyHeads = strings.Fields(`Acorn Alder Anchor Arbor Aspen Atlas Aurora Beacon Birch Bluebird Bramble Bright Canyon Cedar
		Cinder Clover Cobalt Copper Coral Crest Delta Drift Ember Falcon Fern Fjord Flint Garnet Glacier Granite Harbor Hazel
		Heron Indigo Iron Ivory Juniper Kestrel Lantern Larch Linden Lumen Magnolia Maple Meadow Mesa Nimbus North Oak Onyx
		Orchard Osprey Otter Pebble Pine Prairie Quarry Raven Ridge River Rowan Saffron Sage Sequoia Slate Sparrow Summit
		Tamarack Teal Thistle Timber Topaz Tundra Umber Valley Verdant Violet Walnut Willow Wren Yarrow Zephyr`)
	companyTails = strings.Split("Systems|Labs|Logistics|Foods|Energy|Robotics|Health|Partners|Software|Materials|Motors|"+
		"Media|Analytics|Design|Supply|Networks|Farms|Instruments|Textiles|Works GmbH|& Sons|Group|Holdings Ltd", "|")
	jobTitles = strings.Split("Operations Manager|Head of Procurement|Chief Technology Officer|Founder|Office Manager|"+
		"Marketing Director|Sales Engineer|Plant Manager|VP Finance|Buyer|Project Lead|Consultant|Data Analyst|"+
		"Account Executive|Chief of Staff|IT Administrator", "|")
	loremWords = strings.Fields(`about after again asked because before budget called contract demo details discussed email
		follow from invoice issue later machine meeting month needs next offer order plan please price product proposal quarter
		question quote ready renewal replied review sales sample schedule send service shipping site soon spare start support
		team terms test thanks training update upgrade visit wants warranty week with year`)
	streets = strings.Fields("Main Oak Mill Church Park Station High Lake Garden Bridge Market Hill School River Forest")
	pages   = strings.Fields("pricing product blog/maintenance blog/roi contact demo about careers case-studies docs")
)

// place names of one city.
type cityNames struct{ city, state, stateCode, country, countryCode, zip, zone string }

var cities = []cityNames{
	{"Berlin", "Berlin", "BE", "Germany", "DE", "10115", "Europe/Berlin"},
	{"München", "Bayern", "BY", "Germany", "DE", "80331", "Europe/Berlin"},
	{"Boston", "Massachusetts", "MA", "United States", "US", "02108", "US/Eastern"},
	{"Denver", "Colorado", "CO", "United States", "US", "80202", "US/Mountain"},
	{"Austin", "Texas", "TX", "United States", "US", "73301", "US/Central"},
	{"Seattle", "Washington", "WA", "United States", "US", "98101", "US/Pacific"},
	{"Toronto", "Ontario", "ON", "Canada", "CA", "M5H 2N2", "America/Toronto"},
	{"São Paulo", "São Paulo", "SP", "Brazil", "BR", "01310-100", "America/Sao_Paulo"},
	{"Dublin", "Leinster", "L", "Ireland", "IE", "D02 X285", "Europe/Dublin"},
	{"London", "England", "ENG", "United Kingdom", "GB", "EC1A 1BB", "Europe/London"},
	{"Paris", "Île-de-France", "IDF", "France", "FR", "75001", "Europe/Paris"},
	{"Madrid", "Comunidad de Madrid", "MD", "Spain", "ES", "28001", "Europe/Madrid"},
	{"Göteborg", "Västra Götaland", "O", "Sweden", "SE", "411 03", "Europe/Stockholm"},
	{"Tokyo", "Tokyo", "13", "Japan", "JP", "100-0001", "Asia/Tokyo"},
	{"Sydney", "New South Wales", "NSW", "Australia", "AU", "2000", "Australia/Sydney"},
	{"Nairobi", "Nairobi", "110", "Kenya", "KE", "00100", "Africa/Nairobi"},
}
