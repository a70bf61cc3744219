import type { FastifyInstance } from 'fastify'
import type { EntryPath } from '../../backends/path.ts'

/** Removes entries, into the trash while that is on; what is not there is gone already. */
export async function removeEntries(
  app: FastifyInstance,
  folder: string,
  paths: EntryPath[],
  options: { recursive: boolean; signal: AbortSignal },
): Promise<void> {
  if (app.trash.isOn) await app.trash.put(folder, paths, options)
  else await (await app.vfolders.files(folder)).remove(paths, options)
}
