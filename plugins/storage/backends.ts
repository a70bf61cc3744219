import type { TSchema } from '@sinclair/typebox'
import { Ajv } from 'ajv'
import fp from 'fastify-plugin'
import type { BackendDefinition } from '../../backends/definition.ts'
import { checkDefinition } from './backend-shape.ts'

declare module 'fastify' {
  interface FastifyInstance {
    backends: ReturnType<typeof createRegistry>
  }
}

/** How long code of others may take in the start: to be loaded, to register, and to create a backend. */
export const startSeconds = 10

function checkSchema(ajv: Ajv, type: string, options: TSchema): void {
  try {
    ajv.compile(options)
  } catch (cause) {
    throw new Error(`the options of backend ${type} are no JSON Schema`, { cause })
  }
}

function createRegistry() {
  const definitions = new Map<string, BackendDefinition>()
  // What it compiles in strict mode is a schema; to compile the schema of schemas would take a fifth of the start.
  const ajv = new Ajv({ validateSchema: false, allowUnionTypes: true })
  let frozen = false

  return {
    /** @throws when the definition is not valid, its type is registered already, or the service is ready */
    register(definition: BackendDefinition): void {
      checkDefinition(definition)
      checkSchema(ajv, definition.type, definition.options)
      if (frozen) throw new Error(`backend ${definition.type} was registered after the service was ready`)
      if (definitions.has(definition.type)) throw new Error(`backend ${definition.type} is registered twice`)
      definitions.set(definition.type, definition)
    },
    get: (type: string): BackendDefinition | undefined => definitions.get(type),
    types: (): string[] => [...definitions.keys()],
    freeze(): void {
      frozen = true
    },
  }
}

/** The kinds of storage that a volume can have; each backend's own plugin registers one. */
export default fp(
  async (app) => {
    const registry = createRegistry()
    app.decorate('backends', registry)
    app.addHook('onReady', async () => registry.freeze())
  },
  { name: 'backends' },
)
