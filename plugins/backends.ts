import { type TSchema, Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { Ajv } from 'ajv'
import fp from 'fastify-plugin'
import type { BackendDefinition } from '../backends/backend.ts'

declare module 'fastify' {
  interface FastifyInstance {
    backends: ReturnType<typeof createRegistry>
  }
}

/** What a definition must be; one that JavaScript or another version of the contract gave may be anything. */
const Definition = Type.Object({
  type: Type.String({ pattern: '^[a-z0-9][a-z0-9._-]{0,62}$' }),
  options: Type.Object({ type: Type.Literal('object'), additionalProperties: Type.Literal(false) }),
  create: Type.Function([], Type.Unknown()),
})

/** @throws with a sentence that names what is wrong */
function check(definition: BackendDefinition): void {
  const wrong = Value.Errors(Definition, definition).First()
  if (wrong !== undefined) {
    const rule = wrong.message.replace(/^E/, 'e')
    throw new Error(`the definition of a backend is wrong at ${wrong.path || '/'}: ${rule}`)
  }
  checkSchema(definition.type, definition.options)
}

function checkSchema(type: string, options: TSchema): void {
  try {
    new Ajv().compile(options)
  } catch (cause) {
    throw new Error(`the options of backend ${type} are no JSON Schema`, { cause })
  }
}

function createRegistry() {
  const definitions = new Map<string, BackendDefinition>()
  let frozen = false

  return {
    /** @throws when the definition is not one, its type is registered already, or the service is ready */
    register(definition: BackendDefinition): void {
      check(definition)
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

/** The kinds of storage that volumes can be of; each backend's own plugin registers one. */
export default fp(
  async (app) => {
    const registry = createRegistry()
    app.decorate('backends', registry)
    app.addHook('onReady', async () => registry.freeze())
  },
  { name: 'backends' },
)
