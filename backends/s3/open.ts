import type { FastifyBaseLogger } from 'fastify'
import type { Backend } from '../backend.ts'
import { Turns } from '../turns.ts'
import { createS3Backend } from './backend.ts'
import { Bucket } from './bucket.ts'
import { createClient, createPresigner } from './client.ts'
import { Conditions } from './conditions.ts'
import { Keys } from './keys.ts'
import type { S3Options } from './options.ts'
import { PartBuffers } from './part-buffers.ts'
import { Presigner } from './presign.ts'
import { touchesPerIdle } from './store.ts'

/** How often at least what is being written is touched. */
const longestTouchMilliseconds = 30_000

export function openBackend(options: S3Options, log: FastifyBaseLogger, idleSeconds: number): Backend {
  const client = createClient(options, log, options.idleTimeoutSeconds)
  const patient = createClient(options, log, Math.max(options.idleTimeoutSeconds, options.copyTimeoutSeconds))
  const bucket = new Bucket(client, patient, options.bucket, options.commandsAtOnce)
  const keys = new Keys(options.prefix)
  const touchMilliseconds = Math.min(longestTouchMilliseconds, (idleSeconds * 1000) / touchesPerIdle)
  return createS3Backend({
    bucket,
    keys,
    buffers: new PartBuffers(options.partBytes, options.uploadBuffers),
    conditions: new Conditions({ bucket, keys, touchMilliseconds }, log),
    presigner: new Presigner(createPresigner(options), options.bucket, options.endpoint === undefined),
    copyPartBytes: options.copyPartBytes,
    touchMilliseconds,
    turns: new Turns(),
  })
}
