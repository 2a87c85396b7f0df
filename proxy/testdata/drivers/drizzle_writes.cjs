// Drizzle: contacts of HubSpot created, updated, upserted and deleted through its ORM, over both drivers for node.
'use strict'
const { strict: assert } = require('node:assert')
const pg = require('pg')
const postgres = require('postgres')
const { eq, like } = require('drizzle-orm')
const { drizzle: overPg } = require('drizzle-orm/node-postgres')
const { drizzle: overPostgres } = require('drizzle-orm/postgres-js')
const { bigint, pgSchema, text } = require('drizzle-orm/pg-core')

const { PGHOST: host, PGPORT, PGUSER: user, PGDATABASE: database } = process.env
const port = Number(PGPORT)
const ok = (name) => console.log('ok ' + name)

const contacts = pgSchema('hubspot').table('contacts', {
  id: bigint('id', { mode: 'number' }).primaryKey(),
  email: text('email'),
  firstname: text('firstname'),
  lastname: text('lastname'),
})

async function write(driver, db) {
  const name = driver + '-orm'
  const email = `${name}@example.com`
  const [made] = await db.insert(contacts).values({ email, firstname: 'Created' }).returning()
  assert.ok(made.id > 0)
  assert.equal(made.firstname, 'Created')
  const many = await db.insert(contacts).values([0, 1, 2].map((n) => ({ email: `${name}${n}@example.com`, firstname: `Many ${n}` }))).returning()
  assert.deepEqual(many.map((m) => m.firstname), ['Many 0', 'Many 1', 'Many 2'])
  ok('create with ' + driver)

  const [updated] = await db.update(contacts).set({ lastname: 'Updated' }).where(eq(contacts.id, made.id)).returning()
  assert.equal(updated.lastname, 'Updated')
  await db.transaction(async (tx) => {
    await tx.update(contacts).set({ lastname: 'All' }).where(like(contacts.email, `${name}_@%`))
  })
  ok('update with ' + driver)

  const [upserted] = await db.insert(contacts).values({ email, firstname: 'Upserted' })
    .onConflictDoUpdate({ target: contacts.email, set: { firstname: 'Upserted' } }).returning()
  assert.deepEqual([upserted.id, upserted.firstname, upserted.lastname], [made.id, 'Upserted', 'Updated'])
  ok('upsert with ' + driver)

  const gone = await db.delete(contacts).where(eq(contacts.email, `${name}0@example.com`)).returning()
  assert.equal(gone.length, 1)
  ok('delete with ' + driver)
}

async function main() {
  const pool = new pg.Pool({ host, port, user, database })
  await write('node-postgres', overPg(pool))
  await pool.end()
  const sql = postgres({ host, port, user, database })
  await write('postgres.js', overPostgres(sql))
  await sql.end()
}

main().catch((err) => {
  console.error(err)
  process.exit(1)
})
