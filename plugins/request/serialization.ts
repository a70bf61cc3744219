import { SerializerSelector } from '@fastify/fast-json-stringify-compiler'

const build = SerializerSelector()

/**
 * Fastify's own serializers, but one for all responses that look the same, as those of errors do on every route: they
 * are five in six, and to make one takes a millisecond of the start.
 */
export const buildSerializer: typeof build = (schemas, options) => {
  const compile = build(schemas, options)
  const serializers = new Map<string, ReturnType<typeof compile>>()
  return (route) => {
    const key = JSON.stringify(route.schema)
    const serializer = serializers.get(key) ?? compile(route)
    serializers.set(key, serializer)
    return serializer
  }
}
