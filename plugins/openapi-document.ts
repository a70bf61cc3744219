import { problemMediaType } from './errors.ts'

/** An extension of a route's schema: its body is a form with files, which no schema of the body validates. */
export const filesForm = 'x-files-form'

const formBody = {
  required: true,
  content: {
    'multipart/form-data': {
      schema: {
        type: 'object',
        properties: { file: { type: 'array', items: { type: 'string', format: 'binary' } } },
      },
    },
  },
}

/**
 * Says what the schemas of the routes mean and @fastify/swagger cannot know: that errors are problem documents, that what
 * has a default need not be given, and that forms have files.
 */
export function mend<T extends { paths?: unknown }>(document: T): T {
  for (const path of objectsIn(document.paths)) for (const operation of objectsIn(path)) mendOperation(operation)
  return document
}

function mendOperation(operation: Record<string, unknown>): void {
  for (const parameter of objectsIn(operation.parameters)) {
    if (isObject(parameter.schema) && 'default' in parameter.schema) parameter.required = false
  }
  if (operation[filesForm] === true) {
    delete operation[filesForm]
    operation.requestBody = formBody
  }
  if (isObject(operation.requestBody)) {
    for (const content of objectsIn(operation.requestBody.content)) mendRequired(content.schema)
  }
  if (!isObject(operation.responses)) return
  for (const [status, response] of Object.entries(operation.responses)) {
    if (!/^[45]/.test(status) || !isObject(response) || !isObject(response.content)) continue
    const json = response.content['application/json']
    if (json !== undefined) response.content = { [problemMediaType]: json }
  }
}

function mendRequired(schema: unknown): void {
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
