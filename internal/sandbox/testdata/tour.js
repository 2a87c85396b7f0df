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
    await assert.rejects(client.crm.contacts.searchApi.doSearch({ limit: 201 }), { code: 400 })
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
  async 'associations and labels'() {
    const [contact] = (await client.crm.contacts.basicApi.getPage(1)).results
    const [company] = (await client.crm.companies.basicApi.getPage(1)).results
    const { v4 } = client.crm.associations
    await v4.basicApi.createDefault('contacts', contact.id, 'companies', company.id)
    const page = await v4.basicApi.getPage('contacts', contact.id, 'companies')
    const to = page.results.find((r) => String(r.toObjectId) === company.id)
    assert.ok(to.associationTypes.some((t) => t.typeId === 279))
    const batch = await v4.batchApi.getPage('contacts', 'companies', { inputs: [{ id: contact.id }] })
    assert.ok(batch.results[0].to.length >= 1)
    const types = [{ associationCategory: 'HUBSPOT_DEFINED', associationTypeId: 1 }]
    await v4.batchApi.create('contacts', 'companies', { inputs: [{ _from: { id: contact.id }, to: { id: company.id }, types }] })
    const primary = await v4.basicApi.getPage('contacts', contact.id, 'companies')
    const kinds = primary.results.find((r) => String(r.toObjectId) === company.id).associationTypes.map((t) => t.typeId)
    assert.deepEqual(kinds.sort((a, b) => a - b), [1, 279]) // the unlabeled type is always beside another
    await v4.basicApi.archive('contacts', contact.id, 'companies', company.id)
    assert.ok((await v4.schema.definitionsApi.getAll('contacts', 'companies')).results.length >= 2)
    const made = await v4.schema.definitionsApi.create('contacts', 'companies', { label: 'Adviser', name: 'adviser' })
    assert.ok(made.results.some((t) => t.label === 'Adviser' && t.category === 'USER_DEFINED'))
  },
  async 'properties and groups'() {
    const { coreApi, groupsApi, batchApi } = client.crm.properties
    const { results } = await coreApi.getAll('contacts')
    assert.ok(results.some((p) => p.name === 'email'))
    await groupsApi.create('contacts', { name: 'tour', label: 'Tour' })
    assert.ok((await groupsApi.getAll('contacts')).results.some((g) => g.name === 'tour'))
    await coreApi.create('contacts', { name: 'tour', label: 'Tour', type: 'string', fieldType: 'text', groupName: 'tour' })
    await coreApi.update('contacts', 'tour', { label: 'Grand tour' })
    assert.equal((await coreApi.getByName('contacts', 'tour')).label, 'Grand tour')
    const read = await batchApi.read('contacts', { archived: false, inputs: [{ name: 'tour' }, { name: 'email' }] })
    assert.equal(read.results.length, 2)
    await assert.rejects(groupsApi.archive('contacts', 'tour'), { code: 400 })
    await coreApi.archive('contacts', 'tour')
    await assert.rejects(coreApi.getByName('contacts', 'tour'), { code: 404 })
    await groupsApi.archive('contacts', 'tour')
  },
  async 'schemas'() {
    const { results } = await client.crm.schemas.coreApi.getAll()
    const machines = results.find((s) => s.name === 'machines')
    const one = await client.crm.schemas.coreApi.getById(machines.fullyQualifiedName)
    assert.equal(one.objectTypeId, machines.objectTypeId)
    assert.ok(one.properties.length > 0 && one.associations.length > 0)
    const page = await client.crm.objects.basicApi.getPage(machines.objectTypeId, 5)
    assert.equal(page.results.length, 5)
    const found = await client.crm.objects.searchApi.doSearch(machines.fullyQualifiedName, { limit: 1 })
    assert.ok(found.total >= 5)
  },
  async 'owners'() {
    const { ownersApi } = client.crm.owners
    const { results } = await ownersApi.getPage()
    assert.ok(results.length >= 8)
    const one = await ownersApi.getById(Number(results[0].id))
    assert.equal(one.email, results[0].email)
    const gone = await ownersApi.getPage(undefined, undefined, 100, true)
    assert.ok(gone.results.every((o) => o.archived && !results.some((other) => other.id === o.id)))
  },
  async 'pipelines and stages'() {
    const { pipelinesApi, pipelineStagesApi } = client.crm.pipelines
    const { results } = await pipelinesApi.getAll('deals')
    assert.ok(results[0].stages.length >= 5)
    assert.ok((await pipelineStagesApi.getAll('deals', results[0].id)).results.length >= 5)
    const stage = { label: 'Open', displayOrder: 0, metadata: { probability: '0.5' } }
    const made = await pipelinesApi.create('deals', { label: 'Tour', displayOrder: 9, stages: [stage] })
    assert.equal((await pipelinesApi.getById('deals', made.id)).label, 'Tour')
    await pipelinesApi.archive('deals', made.id)
    await assert.rejects(pipelineStagesApi.archive('deals', results[0].id, results[0].stages[0].id), { code: 400 })
  },
  async 'lists and members'() {
    const { listsApi, membershipsApi } = client.crm.lists
    const found = await listsApi.doSearch({ offset: 0, count: 10, additionalProperties: [] })
    assert.ok(found.lists.length >= 4)
    const members = await membershipsApi.getPage(Number(found.lists[0].listId))
    assert.ok(Array.isArray(members.results))
    const { list } = await listsApi.create({ name: 'Tour', objectTypeId: '0-1', processingType: 'MANUAL' })
    const [contact] = (await client.crm.contacts.basicApi.getPage(1)).results
    await membershipsApi.add(Number(list.listId), [contact.id])
    assert.deepEqual((await membershipsApi.getPage(Number(list.listId))).results.map((m) => m.recordId), [contact.id])
    await membershipsApi.remove(Number(list.listId), [contact.id])
    assert.equal((await membershipsApi.getPage(Number(list.listId))).results.length, 0)
  },
  async 'forms, emails'() {
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
    await assert.rejects(api.create('refresh_token', undefined, redirectUri, clientId, clientSecret, 'na1-none'), (e) => {
      assert.equal(e.body.error, 'invalid_grant')
      return e.code === 400
    })
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
