import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { type Answer, type Server, startServer, temporaryDirectory } from '../server.ts'

/** The file, or the code of the problem. */
async function textOf(url: string): Promise<string> {
  const response = await fetch(url)
  if (response.ok) return response.text()
  const problem: Answer = await response.json()
  return problem.code
}

/** The same URL at another server, whose port is another. */
function at(server: Server, signed: string): string {
  const { pathname, search } = new URL(signed)
  return server.url + pathname + search
}

t.test('keys are rotated', async (t) => {
  const dataDir = await temporaryDirectory(t)
  const [oldKey, newKey] = ['an-old-signing-key-of-32-bytes-or-more', 'a-new-signing-key-of-32-bytes-or-more']
  const startWith = (...keys: string[]) => startServer(t, { dataDir, env: { SIGNING_KEYS: keys.join(',') } })
  let server = await startWith(oldKey)
  const folder = await server.createFolder()
  await server.upload(folder, { 'a.txt': 'hello' })
  const before = await server.sign(folder, 'a.txt')
  await server.end()

  server = await startWith(newKey, oldKey)
  t.equal(await textOf(at(server, before)), 'hello', 'the old key still verifies')
  const after = await server.sign(folder, 'a.txt')
  t.not(after.split('token=')[1]?.split('.')[0], before.split('token=')[1]?.split('.')[0], 'the new key signs')
  await server.end()

  server = await startWith(newKey)
  t.equal(await textOf(at(server, after)), 'hello')
  t.equal(await textOf(at(server, before)), 'token_invalid', 'the old key is retired')
  await server.end()
})

t.test('without SIGNING_KEYS one is generated', async (t) => {
  const dataDir = await temporaryDirectory(t)
  const options = { dataDir, env: { SIGNING_KEYS: '' } }
  let server = await startServer(t, options)
  const folder = await server.createFolder()
  await server.upload(folder, { 'a.txt': 'hello' })
  const file = join(dataDir, 'signing-key')
  t.equal((await stat(file)).mode & 0o777, 0o600)
  t.match(await readFile(file, 'utf8'), /^[\w-]{43}\n$/)
  const signed = await server.sign(folder, 'a.txt')
  await server.end()

  server = await startServer(t, options)
  t.equal(await textOf(at(server, signed)), 'hello', 'it outlives a restart')
  await server.end()

  server = await startServer(t, { dataDir })
  t.equal(await textOf(at(server, signed)), 'token_invalid', 'SIGNING_KEYS takes its place')
})
