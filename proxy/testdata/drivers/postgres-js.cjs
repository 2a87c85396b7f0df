// postgres.js, which pipelines everything it can.
'use strict'
const { strict: assert } = require('node:assert')
const { readFileSync } = require('node:fs')
const { once } = require('node:events')
const { pipeline } = require('node:stream/promises')
const { Readable } = require('node:stream')
const postgres = require('postgres')

const { PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, HUBPG_CA } = process.env
const sql = postgres({
  host: PGHOST, port: Number(PGPORT), user: PGUSER, password: PGPASSWORD, database: PGDATABASE, max: 1,
  ssl: HUBPG_CA ? { ca: readFileSync(HUBPG_CA), rejectUnauthorized: true } : false, onnotice: () => {},
})
const ok = (name) => console.log('ok ' + name)
const within = (promise, what) => Promise.race([promise, new Promise((_, reject) => setTimeout(() => reject(new Error('no ' + what)), 10000).unref())])

async function main() {
  assert.equal((await sql`select current_user as u`)[0].u, PGUSER)
  ok('connect')

  const [types] = await sql`
    select ${7}::int4 i, ${'9007199254740993'}::int8 l, ${'1.50'}::numeric n, ${true}::bool b, ${new Date('2026-01-02T03:04:05.678Z')}::timestamptz t,
      ${sql.json({ a: [1, 'é'] })}::jsonb j, ${Buffer.from([0, 255])}::bytea x, ${['a', 'b,"c"']}::text[] a, null::text z`
  assert.deepEqual(types, {
    i: 7, l: '9007199254740993', n: '1.50', b: true, t: new Date('2026-01-02T03:04:05.678Z'), j: { a: [1, 'é'] }, x: Buffer.from([0, 255]), a: ['a', 'b,"c"'], z: null,
  })
  ok('types')

  for (let i = 0; i < 5; i++) assert.equal((await sql`select ${i}::int * 2 as v`)[0].v, 2 * i)
  ok('prepared')

  const many = await Promise.all(Array.from({ length: 200 }, (_, i) => sql`select ${i}::int as v`))
  assert.deepEqual(many.map((r) => r[0].v), Array.from({ length: 200 }, (_, i) => i))
  const settled = await Promise.allSettled(Array.from({ length: 50 }, (_, i) => sql`select 10 / ${i % 5}::int as v`))
  settled.forEach((r, i) => assert.equal(r.status, i % 5 ? 'fulfilled' : 'rejected'))
  let sum = 0
  await sql`select generate_series(1, 1000) as v`.cursor(7, (rows) => { for (const r of rows) sum += r.v })
  assert.equal(sum, 500500)
  ok('batch')

  await sql`create temp table t (id int primary key, name text)`
  const lines = Array.from({ length: 20000 }, (_, i) => `${i}\tname ${i}\n`)
  await pipeline(Readable.from(lines), await sql`copy t from stdin`.writable())
  let bytes = 0
  // Read by events: after an iteration over a plain connection the driver may leave its socket paused.
  const rows = await sql`copy t to stdout`.readable()
  rows.on('data', (chunk) => { bytes += chunk.length })
  await once(rows, 'end')
  assert.equal(bytes, lines.join('').length)
  ok('copy')

  const big = 'x'.repeat(8 << 20)
  assert.equal((await sql`select ${big}::text as v`)[0].v, big)
  ok('large')

  await assert.rejects(sql`select 1/${0}::int`, { code: '22012' })
  await assert.rejects(sql.unsafe('selct 1'), { code: '42601' })
  assert.equal((await sql`select 1 as v`)[0].v, 1)
  ok('error')

  await assert.rejects(sql.begin(async (tx) => { await tx`delete from t`; throw new Error('never mind') }), /never mind/)
  assert.equal((await sql`select count(*)::int c from t`)[0].c, 20000)
  await sql.begin(async (tx) => {
    await assert.rejects(tx.savepoint((s) => s`select * from nowhere`), { code: '42P01' })
    await tx`delete from t where id < 10`
  })
  assert.equal((await sql`select count(*)::int c from t`)[0].c, 19990)
  ok('transaction')

  const slow = sql`select pg_sleep(30)`.execute()
  setTimeout(() => slow.cancel(), 200)
  await assert.rejects(slow, { code: '57014' })
  assert.equal((await sql`select 2 as v`)[0].v, 2)
  ok('cancel')

  let hear
  let heard = new Promise((resolve) => { hear = resolve })
  await sql.listen('native', (payload) => hear(payload))
  await sql.notify('native', 'hello')
  assert.equal(await within(heard, 'native notification'), 'hello')
  ok('listen native')

  heard = new Promise((resolve) => { hear = resolve })
  await sql.listen('hubspot_deals', (payload) => hear(payload))
  const [{ seq }] = await sql`select ring() as seq`
  assert.equal(String(JSON.parse(await within(heard, 'notification of a change')).seq), seq)
  ok('listen hubspot')

  await sql.end()
}

main().catch((e) => { console.error(e); process.exit(1) })
