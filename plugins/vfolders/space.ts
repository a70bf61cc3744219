import type { Backend, Call } from '../../backends/backend.ts'
import { Problem } from '../../lib/problems.ts'

/**
 * Refuses what a storage that says its size is too small for, before room is set aside for it: nobody else could use
 * room that is not there. What others have set aside does not count, or one who only begins could keep all others out.
 * @throws {Problem} `no_space`
 */
export async function requireSpace(backend: Backend, bytes: number, { signal }: Call): Promise<void> {
  const capacity = await backend.capacity?.({ signal })
  if (capacity === undefined || capacity.availableBytes >= bytes) return
  const members = { availableBytes: capacity.availableBytes, wantedBytes: bytes }
  throw new Problem('no_space', `The volume has ${capacity.availableBytes} bytes left of ${bytes} wanted.`, { members })
}
