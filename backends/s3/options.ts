import { type Static, Type } from '@sinclair/typebox'

const MiB = 1024 * 1024
const GiB = 1024 * MiB

export const s3Options = Type.Object(
  {
    bucket: Type.String({ minLength: 3, description: 'the bucket; it must exist' }),
    prefix: Type.String({ default: '', description: 'what all keys of the volume begin with, such as "files/"' }),
    endpoint: Type.Optional(
      Type.String({ pattern: '^https?://', description: 'the URL of a server that is not Amazon S3' }),
    ),
    region: Type.String({ default: 'us-east-1', description: 'where the bucket is' }),
    forcePathStyle: Type.Optional(
      Type.Boolean({ description: 'names the bucket in the path, not in the host; absent: when there is an endpoint' }),
    ),
    accessKeyId: Type.Optional(
      Type.String({
        minLength: 1,
        description: "absent: the SDK's chain, which looks into the environment, files, and the machine's role",
      }),
    ),
    secretAccessKey: Type.Optional(Type.String({ minLength: 1 })),
    sessionToken: Type.Optional(Type.String({ minLength: 1, description: 'of temporary credentials' })),
    publicEndpoint: Type.Optional(
      Type.String({
        pattern: '^https?://',
        description: 'where clients reach the server, for presigned URLs; absent: at the endpoint',
      }),
    ),
    partBytes: Type.Integer({
      default: 8 * MiB,
      minimum: 5 * MiB,
      maximum: 512 * MiB,
      description: 'bytes of a part of a multipart upload; 10,000 of them are the largest file',
    }),
    uploadBuffers: Type.Integer({
      default: 6,
      minimum: 1,
      description: 'parts in memory at once, over all uploads of the process',
    }),
    copyPartBytes: Type.Integer({
      default: GiB,
      minimum: 5 * MiB,
      maximum: 5 * GiB,
      description: 'a larger object is copied by parts of so many bytes',
    }),
    connectTimeoutSeconds: Type.Integer({ default: 5, minimum: 1, description: 'for a connection to be made' }),
    idleTimeoutSeconds: Type.Integer({
      default: 60,
      minimum: 1,
      description: 'a connection to the server on which nothing moves for so long is given up',
    }),
    copyTimeoutSeconds: Type.Integer({
      default: 300,
      minimum: 1,
      description: 'how long the server may say nothing while it copies, or puts a file together from its parts',
    }),
    maxAttempts: Type.Integer({
      default: 4,
      minimum: 1,
      description: 'how often a command is sent that was answered 500 or 503, or not at all',
    }),
    commandsAtOnce: Type.Integer({ default: 128, minimum: 1, description: 'commands under way at once; others wait' }),
  },
  { additionalProperties: false },
)

export type S3Options = Static<typeof s3Options>
