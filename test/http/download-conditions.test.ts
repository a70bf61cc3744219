import { utimes } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import type { Answer } from '../server.ts'
import { server } from '../shared-server.ts'

t.test('preconditions', async (t) => {
  const folder = await server.createFolder()
  await server.upload(folder, { 'a.txt': 'hello' })
  // The milliseconds are not in Last-Modified, and must not make the file newer than it says.
  await utimes(join(await server.mountOf(folder), 'a.txt'), 0, new Date('1994-11-06T08:49:37.999Z'))
  const url = await server.sign(folder, 'a.txt')
  const { headers } = await fetch(url)
  const [etag, modified] = [headers.get('etag')!, headers.get('last-modified')!]
  t.equal(modified, 'Sun, 06 Nov 1994 08:49:37 GMT')
  const [before, after] = ['Sun, 06 Nov 1994 08:49:36 GMT', 'Sun, 06 Nov 1994 08:49:38 GMT']

  const cases: [status: number, headers: Record<string, string>][] = [
    [304, { 'if-none-match': etag }],
    [304, { 'if-none-match': `W/${etag}` }],
    [304, { 'if-none-match': `"other", W/"x,y", ${etag}` }],
    [304, { 'if-none-match': '*' }],
    [200, { 'if-none-match': '"other"' }],
    [200, { 'if-none-match': etag.replaceAll('"', '') }],

    [304, { 'if-modified-since': modified }],
    [304, { 'if-modified-since': after }],
    [200, { 'if-modified-since': before }],
    [304, { 'if-modified-since': 'Sunday, 06-Nov-94 08:49:37 GMT' }],
    [304, { 'if-modified-since': 'Sun Nov  6 08:49:37 1994' }],
    [200, { 'if-modified-since': 'Sun Nov  6 08:49:36 1994' }],
    [200, { 'if-modified-since': 'yesterday' }],
    [200, { 'if-modified-since': '2030' }],
    [200, { 'if-modified-since': '2030-01-01T00:00:00Z' }],

    [200, { 'if-match': etag }],
    [200, { 'if-match': `"other", ${etag}` }],
    [200, { 'if-match': '*' }],
    [412, { 'if-match': '"other"' }],
    [412, { 'if-match': `W/${etag}` }],

    [200, { 'if-unmodified-since': modified }],
    [200, { 'if-unmodified-since': after }],
    [412, { 'if-unmodified-since': before }],
    [200, { 'if-unmodified-since': 'long ago' }],

    // RFC 9110, section 13.2.2: the tags count, the dates beside them do not.
    [200, { 'if-match': etag, 'if-unmodified-since': before }],
    [412, { 'if-match': '"other"', 'if-unmodified-since': after }],
    [200, { 'if-none-match': '"other"', 'if-modified-since': modified }],
    [304, { 'if-none-match': etag, 'if-modified-since': before }],
    // What must hold comes before what need not be sent, and both before the range.
    [412, { 'if-match': '"other"', 'if-none-match': etag }],
    [304, { 'if-match': etag, 'if-none-match': etag }],
    [412, { 'if-unmodified-since': before, 'if-modified-since': modified }],
    [304, { 'if-none-match': etag, range: 'bytes=0-1' }],
    [304, { 'if-none-match': etag, range: 'bytes=9-' }],
    [412, { 'if-match': '"other"', range: 'bytes=9-' }],
    [206, { 'if-match': etag, range: 'bytes=0-1' }],
  ]
  for (const [status, headers] of cases) {
    for (const method of status === 206 ? ['GET'] : ['GET', 'HEAD']) {
      const what = `${method} ${JSON.stringify(headers)}`
      const response = await fetch(url, { method, headers })
      const body = await response.text()
      t.equal(response.status, status, what)
      if (status === 200 && method === 'GET') t.equal(body, 'hello')
      if (status === 412 && method === 'GET') {
        const problem: Answer = JSON.parse(body)
        t.match(problem, { code: 'precondition_failed', requestId: response.headers.get(requestIdHeader) })
      }
      if (status !== 304) continue
      t.equal(body, '', what)
      t.equal(response.headers.get('etag'), etag)
      t.equal(response.headers.get('last-modified'), modified)
      t.ok(response.headers.get('cache-control'))
      t.ok([null, '5'].includes(response.headers.get('content-length')), 'no length, or that of the file')
    }
  }

  await t.test('on the wire', async (t) => {
    const { pathname, search } = new URL(url)
    const lines = [`GET ${pathname}${search} HTTP/1.1`, 'Host: x', 'Connection: close', `If-None-Match: ${etag}`]
    const { status, body } = await server.raw(`${lines.join('\r\n')}\r\n\r\n`)
    t.equal(status, 304)
    t.equal(body, '', 'no byte follows the headers')
  })

  await t.test('conditions on what is not there', async (t) => {
    const none = await server.sign(folder, 'none')
    for (const name of ['if-match', 'if-none-match']) {
      t.equal((await fetch(none, { headers: { [name]: '*' } })).status, 404, name)
    }
  })
})
