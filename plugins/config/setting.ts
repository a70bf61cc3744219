import { readSmallFile } from '../../lib/small-file.ts'
import { ConfigError, reasonOf } from './error.ts'

/** What a variable says, and which one was set: `NAME` or `NAME_FILE`. */
export interface Setting {
  name: string
  /** Where `NAME_FILE` points. */
  file?: string
  text: string
}

export type Variable = Omit<Setting, 'text'> & { text: string | undefined }

export function settingOf({ text, ...setting }: Variable): Setting | undefined {
  return text === undefined ? undefined : { ...setting, text }
}

/** The value of a variable that may be set to a file, as `NAME_FILE`, instead. */
export function readVariable(env: NodeJS.ProcessEnv, name: string): Variable {
  const file = env[`${name}_FILE`]
  if (!file) return { name, text: env[name] || undefined }
  if (env[name]) throw new ConfigError(`${name} and ${name}_FILE must not both be set`)
  try {
    return { name: `${name}_FILE`, file, text: readSmallFile(file) }
  } catch (cause) {
    const rule = `${name}_FILE must name a file that can be read, not ${file}: ${reasonOf(cause)}`
    throw new ConfigError(rule, { cause, file })
  }
}

export function parseSecrets({ name, text, file }: Variable, minLength: number): string[] | undefined {
  const items = text?.split(',').map((item) => item.trim())
  if (items?.some((item) => item.length < minLength)) {
    throw new ConfigError(`${name} must have at least ${minLength} characters in each of its values`, { file })
  }
  return items
}
