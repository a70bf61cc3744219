#!/usr/bin/env node
// Commands of a volume for a storage with a REST API: quota, usage and clone by one program. The API is made up, and much
// like those of real arrays: a quota belongs to a directory, which has an ID; a clone is a task that runs for a while.
//
//     {"backend": "command", "root": "/mnt/array", "commands": {
//       "quota": ["/opt/array.mjs", "https://array.example", "/etc/array-token", "/mnt/array"],
//       "usage": [the same], "clone": [the same]}}

import { readFileSync } from 'node:fs'
import { relative } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'

const [url, tokenFile, mountPoint] = process.argv.slice(2)
const request = JSON.parse(await text(process.stdin))

/** An error that the service tells its caller: any other one only ends up in the service's log. */
class Refusal extends Error {
  constructor(code, message) {
    super(message)
    this.code = code
  }
}

async function call(method, path, body) {
  const response = await fetch(new URL(path, url), {
    method,
    headers: {
      authorization: `Bearer ${readFileSync(tokenFile, 'utf8').trim()}`,
      'content-type': 'application/json',
      // So that the logs of both can be joined.
      'x-request-id': request.requestId ?? 'none',
    },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  }).catch((error) => {
    throw new Refusal('storage_unavailable', `the array does not answer: ${error.cause?.code ?? error.message}`)
  })
  if (response.status === 404) return undefined
  if (response.status === 401) throw new Refusal('storage_access_denied', 'the array refuses the token')
  if (response.status === 507) throw new Refusal('no_space', 'the array is full')
  if (response.status === 503) throw new Refusal('storage_unavailable', 'the array is busy')
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`)
  return response.json()
}

/** A directory as the array knows it: by its path below the export. */
const pathOf = (directory) => `/${relative(mountPoint, directory)}`
const quotaOf = (directory) => call('GET', `/quotas?path=${encodeURIComponent(pathOf(directory))}`)

const operations = {
  /** Called again with the same limits, it changes nothing. */
  async quota({ folder, limits }) {
    const settings = { path: pathOf(folder.path), hardBytes: limits.bytes, hardFiles: limits.files }
    const quota = await quotaOf(folder.path)
    if (quota === undefined) await call('POST', '/quotas', settings)
    else await call('PATCH', `/quotas/${quota.id}`, settings)
    return {}
  },

  async usage({ folder }) {
    const quota = (await quotaOf(folder.path)) ?? (await call('POST', '/quotas', { path: pathOf(folder.path) }))
    return { bytes: quota.usedBytes, files: quota.usedFiles }
  },

  /** Whoever cancels it ends this program, by SIGTERM; a task of the array would go on. */
  async clone({ from, to }) {
    let task = await call('POST', '/clones', { from: pathOf(from.files), to: pathOf(to.files) })
    process.once('SIGTERM', async () => {
      await call('DELETE', `/tasks/${task.id}`).catch(() => {})
      process.exit(1)
    })
    while (task.state === 'running') {
      await sleep(100)
      task = await call('GET', `/tasks/${task.id}`)
    }
    if (task.state !== 'done') throw new Error(`the clone is ${task.state}: ${task.reason}`)
    return {}
  },
}

try {
  console.log(JSON.stringify(await operations[request.operation](request)))
} catch (error) {
  if (!(error instanceof Refusal)) throw error
  console.log(JSON.stringify({ error: { code: error.code, message: error.message } }))
}
