import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import type { Cloned, CloneOptions } from '../backend.ts'
import { runTask } from './bulk/task.ts'
import { readStorageTime } from './clock.ts'
import { openDirectory } from './directory.ts'
import { copyExtended } from './extended-trees.ts'
import { flush } from './flush.ts'
import type { Place } from './layout.ts'

const checkpointMilliseconds = 10_000
const changedPaths = 100

/**
 * What a later attempt may rely on. A file that was not flushed is whole only until the machine that wrote it restarts:
 * its size and times may have reached the disk without its bytes.
 */
const Checkpoint = Type.Object({
  /** Identifies the time from one start of the machine to the next. */
  bootId: Type.String(),
  /** When the first attempt of this `bootId` began, by the storage's clock in milliseconds. */
  since: Type.Number(),
  /** What changed before was flushed. */
  flushedBefore: Type.Number(),
})

export async function cloneFolder(
  { layout, ownership }: Pick<Place, 'layout' | 'ownership'>,
  from: string,
  to: string,
  options: CloneOptions,
): Promise<Cloned> {
  const { signal, onProgress, onCheckpoint } = options
  const source = await openDirectory(layout.folder(from), [])
  try {
    const copy = await openDirectory(layout.folder(to), [])
    try {
      const share = () => ({ fds: [source.fd, copy.fd], base: '' })
      const bootId = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim()
      const earlier = Value.Check(Checkpoint, options.checkpoint) ? options.checkpoint : undefined
      const since = earlier?.bootId === bootId ? earlier.since : await readStorageTime(layout)
      const before = earlier?.flushedBefore ?? 0
      onCheckpoint({ bootId, since, flushedBefore: before })

      const checkpoint = async () => {
        const flushedBefore = await readStorageTime(layout)
        await flush(layout.folder(to), signal)
        onCheckpoint({ bootId, since, flushedBefore })
      }
      const work = { kind: 'clone', durable: { before, since }, isNfs: layout.isNfs } as const
      const { files, bytes, ...cloned } = await withCheckpoints(checkpoint, signal, (signal) =>
        runTask(work, share(), { signal, onProgress }),
      )
      if (ownership.extended) await copyExtended(source.fd, copy.fd, { signal })
      const compared = await runTask({ kind: 'compare', isNfs: layout.isNfs }, share(), { signal })
      await checkpoint()
      signal.throwIfAborted()
      return {
        files,
        bytes,
        changed: [...cloned.changed, ...compared.changed].slice(0, changedPaths),
        changedCount: cloned.changedCount + compared.changedCount,
      }
    } finally {
      copy.close()
    }
  } finally {
    source.close()
  }
}

/** Runs `checkpoint` from time to time during `work`; when one fails, `work` is aborted and rejects with its error. */
async function withCheckpoints<T>(
  checkpoint: () => Promise<void>,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const failed = new AbortController()
  const over = new AbortController()
  const checkpoints = (async () => {
    while (await sleep(checkpointMilliseconds, true, { signal: over.signal }).catch(() => false)) await checkpoint()
  })().catch((error) => failed.abort(error))
  try {
    return await work(AbortSignal.any([signal, failed.signal]))
  } finally {
    over.abort()
    await checkpoints
  }
}
