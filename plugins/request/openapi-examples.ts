type Schema = Record<string, unknown>

const ofFormats: Record<string, string> = {
  'date-time': '2026-01-02T03:04:05.678Z',
  uri: 'https://files.example/upload/tus?token=KEY.PERMISSION.MAC',
}

/**
 * An example of a schema of the document, put together from those that its parts have. Undefined when a part has none
 * and its rules do not give one.
 */
export function exampleOf(schema: unknown, components: Schema): unknown {
  if (!isSchema(schema)) return undefined
  const { $ref, examples, anyOf, enum: values, properties, items, type, format, minimum } = schema
  if (Array.isArray(examples)) return examples[0]
  if (typeof $ref === 'string') return exampleOf(components[$ref.split('/').at(-1) ?? ''], components)
  if ('default' in schema) return schema.default
  if ('const' in schema) return schema.const
  if (Array.isArray(values)) return values[0]
  if (Array.isArray(anyOf)) return anyOf.map((one) => exampleOf(one, components)).find((one) => one !== undefined)
  if (isSchema(properties)) return exampleOfObject(properties, components)
  switch (type) {
    case 'array': {
      const item = exampleOf(items, components)
      return item === undefined ? undefined : [item]
    }
    case 'string':
      return typeof format === 'string' ? ofFormats[format] : undefined
    case 'integer':
      return minimum ?? 0
    case 'boolean':
      return true
    case 'null':
      return null
    case 'object':
      return {}
  }
  return undefined
}

function exampleOfObject(properties: Schema, components: Schema): unknown {
  const members = Object.entries(properties).map(([name, schema]) => [name, exampleOf(schema, components)] as const)
  return members.some(([, example]) => example === undefined) ? undefined : Object.fromEntries(members)
}

function isSchema(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
