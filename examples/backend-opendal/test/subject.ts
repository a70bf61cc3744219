import { test } from 'node:test'
import { conformance } from 'storage-proxy/conformance'
import { createOpendalBackend } from '../src/backend.ts'
import { Store } from '../src/store.ts'

/** Runs the behaviour suite on a service of OpenDAL. */
export async function conforms(service: string, options: Record<string, string>): Promise<void> {
  const open = async () => createOpendalBackend(new Store(service, options, 5 * 1024 * 1024))
  for (const { name, run } of await conformance(open)) test(`${service}: ${name}`, run)
}
