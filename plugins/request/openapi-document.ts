import type { FastifySchema } from 'fastify'
import { ProblemDocument, problemMediaType } from './errors.ts'
import { exampleOf } from './openapi-examples.ts'
import { AnswerHeaders, parametersOf, requestHeaders, responseHeaders } from './openapi-headers.ts'

/** An extension of a route's schema: OpenAPI's description of a body that the handler reads and no schema validates. */
export const requestBody = 'x-request-body'

type Operation = Record<string, unknown>

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
 * Gives the wildcard of a route, which is a path inside a vfolder, a name: OpenAPI has no wildcards. A client that
 * encodes the slashes of the path is understood too.
 */
export function nameWildcard({ schema, url }: { schema: FastifySchema; url: string }) {
  const { params } = schema
  if (!url.endsWith('/*') || !isObject(params) || !isObject(params.properties)) return { schema, url }
  const { '*': path, ...properties } = params.properties
  const required = Array.isArray(params.required) ? params.required.map((name) => (name === '*' ? 'path' : name)) : []
  const named = { ...params, required, properties: { ...properties, path } }
  return { schema: { ...schema, params: named }, url: url.replace(/\*$/, ':path') }
}

interface Document {
  paths?: unknown
  components?: { schemas?: unknown; headers?: object }
}

/**
 * Adds what @fastify/swagger cannot know from the routes' schemas: which bodies and headers the handlers read themselves,
 * the headers of answers, that problems have a media type of their own, that a field with a default is not required, nor a
 * body without any that is, and examples of whole bodies.
 */
export function completeDocument<T extends Document>(document: T): T {
  const schemas = isObject(document.components?.schemas) ? document.components.schemas : {}
  const answered = new AnswerHeaders()
  for (const path of objectsIn(document.paths)) {
    nameHead(path)
    for (const operation of objectsIn(path)) completeOperation(operation, schemas, answered)
  }
  document.components = { ...document.components, headers: answered.components }
  return document
}

/** A route for GET and HEAD has one operation, and a HEAD that stands alone has its own. */
function nameHead(path: Operation): void {
  const { get, head } = path
  if (!isObject(get) || !isObject(head) || head.operationId !== get.operationId) return
  path.head = { ...head, operationId: `${get.operationId}Headers` }
}

function completeOperation(operation: Operation, schemas: Record<string, unknown>, answered: AnswerHeaders): void {
  for (const parameter of objectsIn(operation.parameters)) {
    if (isObject(parameter.schema) && 'default' in parameter.schema) parameter.required = false
  }
  if (requestBody in operation) {
    operation.requestBody = operation[requestBody]
    delete operation[requestBody]
  }
  if (isObject(operation.requestBody)) {
    for (const content of objectsIn(operation.requestBody.content)) forgetDefaulted(content.schema)
    addExamples(operation.requestBody.content, schemas)
    const json = isObject(operation.requestBody.content) && operation.requestBody.content['application/json']
    if (isObject(json)) operation.requestBody.required = isNeeded(json.schema)
  }
  const parameters = Array.isArray(operation.parameters) ? operation.parameters : []
  operation.parameters = [...parameters, ...parametersOf(operation[requestHeaders])]
  const named = operation[responseHeaders]
  delete operation[requestHeaders]
  delete operation[responseHeaders]
  if (!isObject(operation.responses)) return
  for (const [status, response] of Object.entries(operation.responses)) {
    if (!isObject(response)) continue
    response.headers = answered.of(named, status)
    if (!isObject(response.content)) continue
    const json = response.content['application/json']
    if (isProblem(json)) response.content = { [problemMediaType]: json }
    addExamples(response.content, schemas)
  }
}

function addExamples(content: unknown, schemas: Record<string, unknown>): void {
  if (!isObject(content)) return
  for (const [type, media] of Object.entries(content)) {
    if (!/json$/.test(type) || !isObject(media)) continue
    const example = exampleOf(media.schema, schemas)
    if (example !== undefined) media.example = example
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

/** A JSON body that is not there counts as an object without members. */
function isNeeded(schema: unknown): boolean {
  if (!isObject(schema)) return true
  const { required, minProperties } = schema
  return (Array.isArray(required) && required.length > 0) || minProperties !== undefined
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

function objectsIn(value: unknown): Record<string, unknown>[] {
  return isObject(value) ? Object.values(value).filter(isObject) : []
}
