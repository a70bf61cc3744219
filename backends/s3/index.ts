import fp from 'fastify-plugin'
import { defineBackend } from '../backend.ts'
import { withCircuit } from '../layers/circuit.ts'
import { createS3Backend } from './backend.ts'
import { Bucket } from './bucket.ts'
import { PartBuffers } from './buffers.ts'
import { createClient, createPresigner } from './client.ts'
import { Conditions } from './conditions.ts'
import { Keys } from './keys.ts'
import { s3Options } from './options.ts'
import { Presigner } from './presign.ts'

/** Amazon S3 and what speaks its protocol: Ceph, MinIO, Garage and others. The bucket need not answer at the start. */
export const s3 = defineBackend({
  type: 's3',
  options: s3Options,
  async create({ options, log }) {
    if ((options.accessKeyId === undefined) !== (options.secretAccessKey === undefined)) {
      throw new Error('accessKeyId and secretAccessKey must be given together')
    }
    const bucket = new Bucket(createClient(options, log), options.bucket)
    const keys = new Keys(options.prefix)
    const backend = createS3Backend({
      bucket,
      keys,
      buffers: new PartBuffers(options.partBytes, options.uploadBuffers),
      conditions: new Conditions(bucket, keys.probes, log),
      presigner: new Presigner(createPresigner(options), options.bucket, options.endpoint === undefined),
      copyPartBytes: options.copyPartBytes,
    })
    return withCircuit(backend, log)
  },
})

export default fp(async (app) => app.backends.register(s3), { name: 'backend-s3', dependencies: ['backends'] })
