import type { ErrorObject } from 'ajv'

/** A value of the environment does not fit; the message names the variable and the rule. */
export class ConfigError extends Error {
  /** The file that the value stands in. */
  readonly file: string | undefined

  constructor(message: string, { cause, file }: { cause?: unknown; file?: string | undefined } = {}) {
    super(message, { cause })
    this.file = file
  }
}

/** Names the file that the value stands in, where what `work` finds wrong with it does not name one itself. */
export async function inFile<T>(file: string | undefined, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof ConfigError) || file === undefined || error.file !== undefined) throw error
    throw new ConfigError(error.message, { cause: error.cause, file })
  }
}

/** Why, for the end of a sentence: the first line of whatever was thrown. */
export function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message : typeof error === 'string' ? error : ''
  return text.trim().split('\n')[0] || 'it does not say why'
}

/** Says in words which rule of the schema is broken. */
export function explainRule(name: string, error: ErrorObject | undefined): string {
  const { instancePath = '', message = 'is not valid', params = {}, propertyName } = error ?? {}
  const { allowedValues = [], additionalProperty = '' } = params
  const place = propertyName === undefined ? instancePath : `${instancePath}/${propertyName}`
  const words = [(name + place).replace(/^\//, ''), message, additionalProperty, allowedValues.join(', ')]
  return words.filter(Boolean).join(' ')
}
