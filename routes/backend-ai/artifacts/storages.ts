import { createHash } from 'node:crypto'
import { type Static, Type } from '@sinclair/typebox'
import { Ajv } from 'ajv'
import type { FastifyInstance } from 'fastify'
import { Problem } from '../../../lib/problems.ts'
import { toUuid } from '../../../lib/vfid.ts'
import { ConfigError, explainRule, reasonOf, type Setting } from '../../../plugins/config.ts'
import type { VfolderFiles } from '../../../plugins/vfolders/files.ts'
import { Refusal } from '../refusal.ts'

const Name = Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._-]*$' })

/** With buckets a storage is one for objects, without it is one for files. */
const Shape = Type.Record(
  Name,
  Type.Object(
    { volume: Type.String(), buckets: Type.Optional(Type.Array(Name, { minItems: 1 })) },
    { additionalProperties: false },
  ),
)
type Storage = Static<typeof Shape>[string]

/** Where artifacts are. */
export interface Place {
  storage: string
  /** Undefined: a storage for files. */
  bucket: string | undefined
}

/** Each bucket, and each storage for files, is a vfolder, whose ID follows from the names; so every process knows it. */
function idOf({ storage, bucket }: Place): string {
  const name = JSON.stringify(['artifacts of Backend.AI', storage, bucket ?? null])
  return toUuid(createHash('sha256').update(name).digest('hex').slice(0, 32))
}

/** @throws {ConfigError} */
export function createStorages(app: FastifyInstance, setting: Setting) {
  const storages = new Map(Object.entries(parse(setting)))
  for (const [name, { volume }] of storages) {
    try {
      app.volumes.get(volume)
    } catch (error) {
      throw new ConfigError(`${setting.name}/${name}/volume must be one of VOLUMES: ${reasonOf(error)}`, setting)
    }
  }

  /** @throws {Refusal} when there is no such storage or bucket */
  function storageOf({ storage, bucket }: Place): Storage {
    const found = storages.get(storage)
    if (found === undefined || (bucket === undefined) !== (found.buckets === undefined)) {
      throw notFound('Storage Not Found', `There is no storage ${storage} of this kind.`)
    }
    if (bucket !== undefined && !found.buckets?.includes(bucket)) {
      throw notFound('Storage Bucket Not Found', `The storage ${storage} has no bucket ${bucket}.`)
    }
    return found
  }

  /** Its vfolder is made by whoever is first to need it. */
  async function open(place: Place, signal: AbortSignal): Promise<{ folder: string; files: VfolderFiles }> {
    const { volume } = storageOf(place)
    const id = idOf(place)
    const find = async () => ({ folder: id, files: await app.vfolders.files(id) })
    return find().catch(async (error: unknown) => {
      if (!(error instanceof Problem) || error.code !== 'vfolder_not_found') throw error
      const quota = { bytes: null, files: null }
      const metadata = { backendAiArtifacts: [place.storage, place.bucket].filter(Boolean).join('/') }
      await app.vfolders.create({ id, volume: app.volumes.get(volume), quota, quotaScope: null, metadata }, signal)
      return find()
    })
  }

  /** The same without a look at the storage; undefined where there is no such storage or bucket. */
  function find(place: Place): { folder: string; volume: string } | undefined {
    try {
      return { folder: idOf(place), volume: storageOf(place).volume }
    } catch {
      return undefined
    }
  }

  return { open, find }
}

export type Storages = ReturnType<typeof createStorages>

function parse({ name, text, file }: Setting): Static<typeof Shape> {
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch (cause) {
    throw new ConfigError(`${name} must be JSON`, { cause, file })
  }
  const validate = new Ajv({ validateSchema: false }).compile<Static<typeof Shape>>(Shape)
  if (!validate(parsed)) throw new ConfigError(explainRule(name, validate.errors?.[0]), { file })
  return parsed
}

function notFound(title: string, msg: string): Refusal {
  const type = 'https://api.backend.ai/probs/storage/not-found'
  return new Refusal('entry_not_found', msg, {
    status: 404,
    body: { type, title, error_code: 'vfolder_read_not-found', msg },
  })
}
