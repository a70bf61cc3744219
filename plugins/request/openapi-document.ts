import { ProblemDocument, problemMediaType } from './errors.ts'

/** An extension of a route's schema: OpenAPI's description of a body that the handler reads and no schema validates. */
export const requestBody = 'x-request-body'

declare module 'fastify' {
  interface FastifySchema {
    [requestBody]?: object
  }
}

export const bytes = { type: 'string', format: 'binary' }

/** A body of one file, or of a part of one. */
export function bytesBody(mediaType: string, { required }: { required: boolean }) {
  return { required, content: { [mediaType]: { schema: bytes } } }
}

export const formBody = {
  required: true,
  content: {
    'multipart/form-data': { schema: { type: 'object', properties: { file: { type: 'array', items: bytes } } } },
  },
}

/**
 * Adds what @fastify/swagger cannot know from the routes' schemas: which bodies the handlers read themselves, that
 * problems have a media type of their own, and that a field with a default is not required.
 */
export function completeDocument<T extends { paths?: unknown }>(document: T): T {
  for (const path of objectsIn(document.paths)) for (const operation of objectsIn(path)) completeOperation(operation)
  return document
}

function completeOperation(operation: Record<string, unknown>): void {
  for (const parameter of objectsIn(operation.parameters)) {
    if (isObject(parameter.schema) && 'default' in parameter.schema) parameter.required = false
  }
  if (requestBody in operation) {
    operation.requestBody = operation[requestBody]
    delete operation[requestBody]
  }
  if (isObject(operation.requestBody)) {
    for (const content of objectsIn(operation.requestBody.content)) forgetDefaulted(content.schema)
  }
  if (!isObject(operation.responses)) return
  for (const response of objectsIn(operation.responses)) {
    if (!isObject(response.content)) continue
    const json = response.content['application/json']
    if (isProblem(json)) response.content = { [problemMediaType]: json }
  }
}

function isProblem(media: unknown): boolean {
  return (
    isObject(media) && isObject(media.schema) && media.schema.$ref === `#/components/schemas/${ProblemDocument.$id}`
  )
}

function forgetDefaulted(schema: unknown): void {
  if (!isObject(schema) || !Array.isArray(schema.required) || !isObject(schema.properties)) return
  const { properties } = schema
  schema.required = schema.required.filter((name) => {
    const property = properties[String(name)]
    return !isObject(property) || !('default' in property)
  })
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

function objectsIn(value: unknown): Record<string, unknown>[] {
  return isObject(value) ? Object.values(value).filter(isObject) : []
}
