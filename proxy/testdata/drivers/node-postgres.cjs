// node-postgres with pg-copy-streams and pg-query-stream.
'use strict'
const { strict: assert } = require('node:assert')
const { readFileSync } = require('node:fs')
const { once } = require('node:events')
const { pipeline } = require('node:stream/promises')
const { Readable } = require('node:stream')
const pg = require('pg')
const copy = require('pg-copy-streams')
const QueryStream = require('pg-query-stream')

const { PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, HUBPG_CA } = process.env
const config = { host: PGHOST, port: Number(PGPORT), user: PGUSER, password: PGPASSWORD, database: PGDATABASE }
if (HUBPG_CA) config.ssl = { ca: readFileSync(HUBPG_CA), rejectUnauthorized: true }
// The driver sends a cancel request over plain TCP only.
const plain = { ...config, ssl: false }

const ok = (name) => console.log('ok ' + name)

async function main() {
  const client = new pg.Client(config)
  await client.connect()
  assert.equal((await client.query('select current_user as u')).rows[0].u, PGUSER)
  ok('connect')

  const types = (await client.query({
    text: `select $1::int4 i, $2::int8 l, $3::numeric n, $4::bool b, $5::timestamptz t, $6::jsonb j, $7::bytea x, $8::text[] a, $9::uuid u, null::text z, 'NaN'::float8 f`,
    values: [7, '9007199254740993', '1.50', true, '2026-01-02T03:04:05.678Z', { a: [1, 'é'] }, Buffer.from([0, 255]), ['a', 'b,"c"', null], '00000000-0000-0000-0000-000000000001'],
  })).rows[0]
  assert.equal(types.i, 7)
  assert.equal(types.l, '9007199254740993')
  assert.equal(types.n, '1.50')
  assert.equal(types.b, true)
  assert.equal(types.t.toISOString(), '2026-01-02T03:04:05.678Z')
  assert.deepEqual(types.j, { a: [1, 'é'] })
  assert.deepEqual(types.x, Buffer.from([0, 255]))
  assert.deepEqual(types.a, ['a', 'b,"c"', null])
  assert.equal(types.z, null)
  assert.ok(Number.isNaN(types.f))
  ok('types')

  for (let i = 0; i < 5; i++) {
    const r = await client.query({ name: 'twice', text: 'select $1::int * 2 as v', values: [i] })
    assert.equal(r.rows[0].v, 2 * i)
  }
  ok('prepared')

  // Queries given at once; rows fetched through a portal, a few at a time.
  const many = await Promise.all(Array.from({ length: 100 }, (_, i) => client.query('select $1::int as v', [i])))
  assert.deepEqual(many.map((r) => r.rows[0].v), Array.from({ length: 100 }, (_, i) => i))
  let sum = 0
  for await (const row of client.query(new QueryStream('select generate_series(1, $1::int) as v', [1000], { batchSize: 7 }))) sum += row.v
  assert.equal(sum, 500500)
  ok('batch')

  await client.query('create temp table t (id int primary key, name text)')
  const lines = Array.from({ length: 20000 }, (_, i) => `${i}\tname ${i}\n`)
  await pipeline(Readable.from(lines), client.query(copy.from('copy t from stdin')))
  let bytes = 0
  for await (const chunk of client.query(copy.to('copy t to stdout'))) bytes += chunk.length
  assert.equal(bytes, lines.join('').length)
  await assert.rejects(pipeline(Readable.from(['not a number\tx\n']), client.query(copy.from('copy t from stdin'))), { code: '22P02' })
  assert.equal((await client.query('select count(*)::int c from t')).rows[0].c, 20000)
  ok('copy')

  const big = 'x'.repeat(8 << 20)
  assert.equal((await client.query('select $1::text as v', [big])).rows[0].v, big)
  ok('large')

  await assert.rejects(client.query('select 1/$1::int', [0]), { code: '22012' })
  await assert.rejects(client.query('selct 1'), { code: '42601', position: '1' })
  assert.equal((await client.query('select 1 as v')).rows[0].v, 1)
  ok('error')

  await client.query('begin')
  await client.query('delete from t')
  await client.query('savepoint s')
  await assert.rejects(client.query('select * from nowhere'), { code: '42P01' })
  await client.query('rollback to s')
  await client.query('rollback')
  assert.equal((await client.query('select count(*)::int c from t')).rows[0].c, 20000)
  ok('transaction')

  const slow = new pg.Query('select pg_sleep(30)')
  const cancelled = new Promise((resolve, reject) => {
    slow.on('error', resolve)
    slow.on('end', () => reject(new Error('was not cancelled')))
  })
  client.query(slow)
  const canceller = new pg.Client(plain)
  setTimeout(() => canceller.cancel(client, slow), 200)
  assert.equal((await cancelled).code, '57014')
  assert.equal((await client.query('select 2 as v')).rows[0].v, 2)
  ok('cancel')

  await client.query('listen native')
  const other = new pg.Client(config)
  await other.connect()
  let heard = once(client, 'notification')
  await other.query(`select pg_notify('native', 'hello')`)
  let [n] = await heard
  assert.deepEqual([n.channel, n.payload], ['native', 'hello'])
  ok('listen native')

  await client.query('listen hubspot_deals')
  heard = once(client, 'notification')
  const seq = (await other.query('select ring() as seq')).rows[0].seq
  ;[n] = await heard
  assert.equal(n.channel, 'hubspot_deals')
  assert.equal(String(JSON.parse(n.payload).seq), seq)
  assert.equal(n.processId, client.processID)
  ok('listen hubspot')

  await other.end()
  await client.end()
}

main().catch((e) => { console.error(e); process.exit(1) })
