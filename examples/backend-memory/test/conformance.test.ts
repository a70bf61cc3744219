import { test } from 'node:test'
import { conformance } from 'storage-proxy/conformance'
import { createMemoryBackend } from '../src/backend.ts'

const storage = { folders: new Map(), uploads: new Map() }

for (const { name, run } of await conformance(async () => createMemoryBackend(storage, 64 * 1024 * 1024))) {
  test(name, run)
}
