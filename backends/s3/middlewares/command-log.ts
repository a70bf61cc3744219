import { performance } from 'node:perf_hooks'
import type { S3Client } from '@aws-sdk/client-s3'
import type { FastifyBaseLogger } from 'fastify'
import type { CreateContext } from '../../definition.ts'

type OnCommand = CreateContext<unknown>['onCommand']

/** Asked for by every look at the service's health, and so not told of unless somebody looks closer. */
const quiet = new Set(['HeadBucketCommand'])

/**
 * Logs each command's start (`debug`) and end (`info`), with the request ID that the server gave it, by which the two
 * logs can be joined. Of the input only the names are told, and of an error its code: no header and no URL, so neither
 * a key nor a signature.
 */
export function logCommands(client: S3Client, log: FastifyBaseLogger, onCommand: OnCommand = () => {}): void {
  client.middlewareStack.add(
    (next, context) => async (args) => {
      const command = String(context.commandName)
      const name = command.replace(/Command$/, '')
      const call = { s3_command: name, ...namesIn(args.input) }
      const started = performance.now()
      const duration = () => ({ duration_ms: Math.round(performance.now() - started) })
      const tell = (attempts = 1, failed = false) =>
        onCommand({ name, attempts, seconds: (performance.now() - started) / 1000, failed })
      log.debug(call, 's3 command')
      try {
        const result = await next(args)
        const { $metadata: metadata } = result.output
        const fields = { ...call, ...sizeOf(args.input, result.output), ...duration(), ...attempts(metadata) }
        log[quiet.has(command) ? 'debug' : 'info'](fields, 's3 command done')
        tell(metadata.attempts)
        return result
      } catch (error) {
        log.info({ ...call, ...sizeOf(args.input), ...duration(), ...failure(error) }, 's3 command failed')
        tell(metadataOf(error).attempts, true)
        throw error
      }
    },
    // Around the retries, so that a command is told of once.
    { step: 'initialize', name: 'logCommands', priority: 'high' },
  )
}

function namesIn(input: object): object {
  return {
    ...('Bucket' in input && { bucket: input.Bucket }),
    ...('Key' in input && { key: input.Key }),
    ...('Prefix' in input && { prefix: input.Prefix }),
    ...('PartNumber' in input && { part: input.PartNumber }),
  }
}

/** Bytes of the object or part that goes or comes. */
function sizeOf(input: object, output: object = {}): object {
  if ('Body' in input && Buffer.isBuffer(input.Body)) return { size: input.Body.length }
  if ('ContentLength' in output && typeof output.ContentLength === 'number') return { size: output.ContentLength }
  return {}
}

interface Metadata {
  httpStatusCode?: number | undefined
  requestId?: string | undefined
  attempts?: number | undefined
}

function attempts({ httpStatusCode, requestId, attempts }: Metadata): object {
  return { status: httpStatusCode, attempts, s3_request_id: requestId }
}

function failure(error: unknown): object {
  if (!(error instanceof Error)) return { error_code: 'unknown' }
  const code = 'code' in error && typeof error.code === 'string' ? error.code : error.name
  return { error_code: code, ...attempts(metadataOf(error)) }
}

function metadataOf(error: unknown): Metadata {
  if (!(error instanceof Error) || !('$metadata' in error)) return {}
  return typeof error.$metadata === 'object' ? (error.$metadata ?? {}) : {}
}
