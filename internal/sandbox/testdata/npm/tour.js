// A tour of the sandbox with HubSpot's own client: argument 1 is the address, 2 a static token.
const assert = require('node:assert/strict')
const { Client } = require('@hubspot/api-client')

const [, , basePath, accessToken, clientId, clientSecret] = process.argv
const client = new Client({ basePath, accessToken, numberOfApiCallRetries: 0 })

const stops = {
  async 'list every contact'() {
    const all = await client.crm.contacts.getAll(100, undefined, ['email'])
    assert.ok(all.length >= 120, `${all.length} contacts`)
    assert.equal(new Set(all.map((c) => c.id)).size, all.length)
    assert.ok(all[0].createdAt instanceof Date)
  },
  async 'search in pages'() {
    const filterGroups = [{ filters: [{ propertyName: 'lifecyclestage', operator: 'HAS_PROPERTY' }] }]
    const first = await client.crm.contacts.searchApi.doSearch({ filterGroups, limit: 30, properties: ['email'] })
    assert.equal(first.results.length, 30)
    const second = await client.crm.contacts.searchApi.doSearch({ filterGroups, limit: 30, after: first.paging.next.after })
    assert.ok(!first.results.some((a) => second.results.some((b) => b.id === a.id)))
  },
  async 'create, read, change, merge and archive'() {
    const make = (email) => client.crm.contacts.basicApi.create({ properties: { email }, associations: [] })
    const one = await make('tour-1@example.com')
    const read = await client.crm.contacts.basicApi.getById('tour-1@example.com', ['email'], undefined, undefined, false, 'email')
    assert.equal(read.id, one.id)
    await client.crm.contacts.basicApi.update(one.id, { properties: { firstname: 'Tour' } })
    const two = await make('tour-2@example.com')
    const merged = await client.crm.objects.basicApi.merge?.('contacts', { primaryObjectId: one.id, objectIdToMerge: two.id })
      ?? await client.apiRequest({ method: 'POST', path: '/crm/v3/objects/contacts/merge', body: { primaryObjectId: one.id, objectIdToMerge: two.id } }).then((r) => r.json())
    assert.notEqual(merged.id, one.id)
    await client.crm.contacts.basicApi.archive(merged.id)
    await assert.rejects(client.crm.contacts.basicApi.getById(merged.id), { code: 404 })
  },
  async 'batches'() {
    const api = client.crm.contacts.batchApi
    const made = await api.create({ inputs: [1, 2].map((n) => ({ properties: { email: `batch-${n}@example.com` }, associations: [] })) })
    assert.equal(made.results.length, 2)
    const inputs = made.results.map(({ id }) => ({ id }))
    const read = await api.read({ inputs: [...inputs, { id: '1' }], properties: ['email'], propertiesWithHistory: [] })
    assert.equal(read.results.length, 2)
    assert.equal(read.errors[0].category, 'OBJECT_NOT_FOUND')
    await api.update({ inputs: inputs.map(({ id }) => ({ id, properties: { firstname: 'Batch' } })) })
    const upserted = await api.upsert({ inputs: [{ idProperty: 'email', id: 'batch-1@example.com', properties: { lastname: 'Up' } }] })
    assert.equal(upserted.results[0]._new, false)
    await api.archive({ inputs })
  },
  async 'a refusal carries the codes'() {
    await assert.rejects(client.crm.contacts.basicApi.create({ properties: { color: 'red' }, associations: [] }), (e) => {
      assert.equal(e.code, 400)
      assert.equal(e.body.category, 'VALIDATION_ERROR')
      assert.equal(e.body.errors[0].code, 'PROPERTY_DOESNT_EXIST')
      return true
    })
  },
  async 'associations'() {
    const [contact] = (await client.crm.contacts.basicApi.getPage(1)).results
    const [company] = (await client.crm.companies.basicApi.getPage(1)).results
    const { v4 } = client.crm.associations
    await v4.basicApi.createDefault('contacts', contact.id, 'companies', company.id)
    const page = await v4.basicApi.getPage('contacts', contact.id, 'companies')
    const to = page.results.find((r) => String(r.toObjectId) === company.id)
    assert.ok(to.associationTypes.some((t) => t.typeId === 279))
    const batch = await v4.batchApi.getPage('contacts', 'companies', { inputs: [{ id: contact.id }] })
    assert.ok(batch.results[0].to.length >= 1)
    await v4.basicApi.archive('contacts', contact.id, 'companies', company.id)
    assert.ok((await v4.schema.definitionsApi.getAll('contacts', 'companies')).results.length >= 2)
  },
  async 'properties'() {
    const { results } = await client.crm.properties.coreApi.getAll('contacts')
    assert.ok(results.some((p) => p.name === 'email'))
    const groupName = 'contactinformation'
    await client.crm.properties.coreApi.create('contacts', { name: 'tour', label: 'Tour', type: 'string', fieldType: 'text', groupName })
    assert.equal((await client.crm.properties.coreApi.getByName('contacts', 'tour')).label, 'Tour')
    await client.crm.properties.coreApi.archive('contacts', 'tour')
    assert.ok((await client.crm.properties.groupsApi.getAll('contacts')).results.some((g) => g.name === groupName))
  },
  async 'schemas, owners, pipelines'() {
    const schemas = await client.crm.schemas.coreApi.getAll()
    assert.ok(schemas.results.some((s) => s.name === 'machines'))
    assert.ok((await client.crm.owners.ownersApi.getPage()).results.length >= 8)
    const pipelines = await client.crm.pipelines.pipelinesApi.getAll('deals')
    assert.ok(pipelines.results[0].stages.length >= 5)
    assert.ok((await client.crm.pipelines.pipelineStagesApi.getAll('deals', pipelines.results[0].id)).results.length >= 5)
  },
  async 'lists, forms, emails, exports'() {
    const found = await client.crm.lists.listsApi.doSearch({ offset: 0, count: 10, additionalProperties: [] })
    assert.ok(found.lists.length >= 4)
    const members = await client.crm.lists.membershipsApi.getPage(Number(found.lists[0].listId))
    assert.ok(Array.isArray(members.results))
    assert.ok((await client.marketing.forms.formsApi.getPage()).results.length >= 1)
    assert.ok((await client.marketing.emails.marketingEmailsApi.getPage()).results.length >= 1)
  },
  async 'sign-in'() {
    const redirectUri = 'http://127.0.0.1:9/callback'
    const authorize = new URL(client.oauth.getAuthorizationUrl(clientId, redirectUri, 'crm.objects.contacts.read', undefined, 'state'))
    const url = basePath + authorize.pathname + authorize.search
    const answer = await fetch(url, { method: 'POST', redirect: 'manual', body: new URLSearchParams({ decision: 'approve' }) })
    const back = new URL(answer.headers.get('location'))
    assert.equal(back.searchParams.get('state'), 'state')
    const api = new Client({ basePath }).oauth.tokensApi
    const tokens = await api.create('authorization_code', back.searchParams.get('code'), redirectUri, clientId, clientSecret)
    const refreshed = await api.create('refresh_token', undefined, redirectUri, clientId, clientSecret, tokens.refreshToken)
    const app = new Client({ basePath, accessToken: refreshed.accessToken })
    assert.equal((await app.crm.contacts.basicApi.getPage(1)).results.length, 1)
    await assert.rejects(app.crm.deals.basicApi.getPage(1), { code: 403 })
    const info = await new Client({ basePath }).oauth.accessTokensApi.get(refreshed.accessToken)
    assert.ok(info.scopes.includes('crm.objects.contacts.read'))
  },
}

async function main() {
  let failed = 0
  for (const [name, stop] of Object.entries(stops)) {
    try {
      await stop()
      console.log(`ok: ${name}`)
    } catch (e) {
      failed++
      console.log(`failed: ${name}: ${e.stack}${e.body ? ' ' + JSON.stringify(e.body) : ''}`)
    }
  }
  process.exit(failed ? 1 : 0)
}

main()
