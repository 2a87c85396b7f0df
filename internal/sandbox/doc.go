// Package sandbox is a simulated HubSpot account behind an [net/http.Handler]: for tests, benchmarks and the demo.
//
// # Guarantee
//
// What HubSpot refuses, the sandbox refuses, with HubSpot's status, category and code. What clients stumble over in
// HubSpot they stumble over here: ids and values as text, search that trails the records and ends at 10,000 rows,
// deletions and association changes that move no modified time, merges that make a new id, batches that fail partly
// and come back in another order, limits that differ by endpoint. Where HubSpot's behaviour is not known the sandbox
// takes the stricter reading. The content of an account, and the order of spontaneous changes, depend on
// [Config.Seed] alone.
//
// # API
//
// One handler serves v3 and v4 paths and the dated ones (2025-09, 2026-03, 2026-09). An object type is named by its
// plural, singular, fully qualified name or type id.
//
//	/crm/v3/objects/{type}                           GET list, POST create    also /crm/objects/{version}/{type}…
//	/crm/v3/objects/{type}/{id}                      GET, PATCH, DELETE       idProperty, archived
//	/crm/v3/objects/{type}/batch/{verb}              POST read, create, update, upsert, archive
//	/crm/v3/objects/{type}/search                    POST
//	/crm/v3/objects/{type}/merge                     POST
//	/crm/v3/objects/contacts/gdpr-delete             POST
//	/crm/v4/objects/{type}/{id}/associations/{to}    GET (not 2026-09); …/{toId} PUT, DELETE; …/default/{to}/{toId} PUT
//	/crm/v4/associations/{from}/{to}/batch/{verb}    POST read, create, associate/default, archive, labels/archive
//	/crm/v4/associations/{from}/{to}/labels          GET, POST
//	/crm/v3/properties/{type}[/{name}]               GET, POST, PATCH, DELETE; /batch/read, create, archive POST
//	/crm/v3/properties/{type}/groups[/{name}]        GET, POST, PATCH, DELETE
//	/crm/v3/schemas[/{type}]                         GET, POST; also /crm-object-schemas/{version}/schemas
//	/crm/v3/owners[/{id}]                            GET
//	/crm/v3/pipelines/{type}[/{id}[/stages[/{id}]]]  GET, POST, PATCH, PUT, DELETE
//	/crm/v3/lists[/{id}]                             GET, POST, DELETE; /search POST; /{id}/restore PUT
//	/crm/v3/lists/{id}/memberships[/join-order]      GET, DELETE; /add, /remove, /add-and-remove PUT
//	/crm/v3/lists/records/…                          GET …/{type}/{id}/memberships; POST memberships/batch/read
//	/crm/v3/exports/export/async                     POST; GET …/tasks/{id}/status and export/{id}
//	/marketing/v3/forms[/{id}]                       GET; also /marketing/forms/2026-09-beta
//	/form-integrations/v1/submissions/forms/{id}     GET
//	/marketing/v3/emails, campaigns[/{id}]           GET; also /marketing/emails/{version}, campaigns/{version}
//	/settings/v3/users[/{id}, /roles, /teams]        GET; also /settings/users/2026-03, not 2026-09
//	/account-info/v3/details                         GET
//	/account-info/v3/api-usage/daily/private-apps    GET
//	/crm/limits/{version}/records                    GET
//	/crm/object-library/{version}/enablement         GET
//	/oauth[/{portalId}]/authorize                    GET the consent page, POST the decision
//	/oauth/{version}/token[/introspect, /revoke]     POST; 2026-09, 2026-03, v3; of v1 only token
//	/oauth/v1/access-tokens|refresh-tokens/{token}   GET, DELETE of refresh tokens
//	/oauth/v2/private-apps/get/access-token-info     POST
//	/appinstalls/{version}/external-install          DELETE
//	/webhooks/v3/{appId}/settings, subscriptions…    as HubSpot's; also /webhooks/2026-03, /app-webhooks/2026-09
//	/webhooks-journal/journal/2026-03/…              GET earliest, latest, offset/{offset}/next, batch/…; POST batch/read
//	/webhooks-journal/subscriptions/2026-03[/{id}]   GET, POST, DELETE; also under /webhooks/v4, as is the journal
//	/webhooks-journal/snapshots/2026-03/crm          POST; GET …/status/{id}
//
// Webhooks are sent while [Server.Run] runs. A [Profile] is a whole way to behave, faults included: calm, real or
// hostile.
//
// # Admin API
//
// Everything the exported methods of [Server] do can also be done over HTTP, without a token: POST with a JSON body,
// answered with 200, or with {"error": …}. Ids are strings.
//
//	/_sandbox/create            {type, properties} → {id}          any value of any property, read-only ones too
//	/_sandbox/update            {type, id, properties}             moves the modified time
//	/_sandbox/calculate         {type, id, name, value}            does not
//	/_sandbox/archive, restore, erase   {type, id}
//	/_sandbox/merge             {type, id, other} → {id}
//	/_sandbox/associate, dissociate     {type, id, toType, to, typeId}   0 is the unlabeled type
//	/_sandbox/property/add, change      {type, property}           a PropertyDef
//	/_sandbox/property/archive  {type, name}
//	/_sandbox/type/add          {schema} → {typeId}                a SchemaDef
//	/_sandbox/stamp             {type, count, at}                  many records on one millisecond
//	/_sandbox/step              {count}                            spontaneous changes, now
//	/_sandbox/fault             {fault}                            a Fault; delay in nanoseconds
//	/_sandbox/install           {clientId, scopes} → {refreshToken}    OAuth without its consent page
//	/_sandbox/uninstall         {clientId}
//	/_sandbox/tokens/expire                                all access tokens, now
//	/_sandbox/age               {seconds}                   what ends by itself gets older: tokens, archive, journal, …
//	/_sandbox/owner/add         {email, properties: {firstname, lastname}} → {id}
//	/_sandbox/owner/archive     {id}
//	/_sandbox/list/add          {type, name, processing, filter, value} → {id}   filter is a property
//	/_sandbox/form/submit       {form, properties}
//	/_sandbox/webhooks/target   {clientId, url, count}      count requests at a time
//	/_sandbox/webhooks/subscribe {clientId, subscription} → {id}                 a WebhookSubscription
//	/_sandbox/faults/clear, stats/reset
//	/_sandbox/scopes/withhold   {scopes}                           replaces the set
//
// and GET /_sandbox/stats, /_sandbox/types (counts), /_sandbox/snapshot?type=, /_sandbox/edges?type=&toType=.
//
// # Concurrency
//
// All methods may be called by many goroutines. One lock guards the account; readers share it while they render.
// Nothing runs in the background but [Server.Run]: what is due later (index lag, second bumps) is settled by the next
// call, before it can be seen.
//
// # Size
//
// Records are packed bytes: a million contacts with some 65 values each, and 600,000 other records, take 1.6 GiB of
// heap, 2.6 GiB resident while being read, and 17 s to seed on two cores shared with other work; one core serves 1,500
// pages a second of 100 contacts × 60 properties, 1,200 through a socket to a client on the same core
// (BenchmarkSeedMillion, BenchmarkListPage, BenchmarkListPageHTTP with -cpu 1; November 2026, AMD EPYC).
//
// # Chosen where nothing is known
//
// A page size above the limit is a 400. So is a search whose offset and limit together pass 10,000, a second sort, and
// an IN list of more than 100 values. NEQ and NOT_IN do not match records without a value. Archiving and restoring
// leave the modified time. A backward lifecycle stage is ignored. Rejected calls count towards the daily limit, not
// towards the rolling windows. 2026-09 answers partly failed batches with 200, the other versions with 207. batch/read
// follows merged ids, batch/update and the associations API do not. Writing the same value again moves the modified
// time. An unknown owner is INVALID_OWNER_ID.
//
// Lists: deleted records leave every list and come back to dynamic ones only; a merged record takes the memberships of
// both. Every value of a new record is a propertyChange, too. Erasing a record is a deletion and, for contacts, a
// privacyDeletion; its associations end silently. An association has one event a side and type. A webhook's target
// must be https, or http on a loopback address.
//
// The journal: a file ends when it is asked for, unless [Journal.Every] says otherwise; an offset past its retention is
// a 404; links to files live for ten minutes; batches are at most 100; events are not repeated when several
// subscriptions match; the bodies of merges and of list and privacy events follow those of webhooks. Calls over the
// limit of exports are 429 RATE_LIMITS; an export is written when its end is first noticed, with the records as they
// are then; above 2 MB it is zipped. Times are UTC in exports.
//
// OAuth: a code lives for a minute; a wrong redirect URI or code verifier uses it up; the client secret is needed with
// PKCE too; parameters of the token endpoint in the address are not read; the scopes asked for must be the app's, and
// required ones the account's; revoking a token that never was is a success. A revoked access token is unknown
// (INVALID_AUTHENTICATION), one past its time EXPIRED_AUTHENTICATION for a day. Installing again revokes nothing.
//
// # Not simulated
//
// Signed access tokens and id tokens; v1–v2 paths and v3 associations; filters of the journal; definition of filters of
// lists by the API (dynamic lists follow one property's value); email events, imports, other formats than CSV in
// exports, marketing events, currencies, workflows; writing of forms, emails, campaigns and users; deletion of
// schemas; sensitive properties and locales; conditional property rules; limits per record on associations (of labels
// only the count); gzip; Cloudflare's own errors unless injected. History begins when the account does. Only contacts
// have secondary identities. Tokens, webhooks, the journal and exports are not part of [Server.Save].
package sandbox
