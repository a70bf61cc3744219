import { randomBytes, randomUUID } from 'node:crypto'
import { link, rm, writeFile } from 'node:fs/promises'
import { readSmallFile } from '../../lib/small-file.ts'
import { ConfigError, reasonOf } from '../config.ts'

/** An empty file, left by a full disk or made by hand, must not become a secret that everybody knows. */
const minLength = 32

/**
 * Reads the secret that stands in for a variable that is not set from `file`, which only its owner may read, and makes
 * one of 256 bits on the first start. Processes that start at once end up with the same secret: the first link(2) wins.
 * @throws {ConfigError}
 */
export async function readOrGenerateSecret(variable: string, file: string): Promise<string> {
  const refuse = (rule: string, cause?: unknown) =>
    new ConfigError(`${variable} must be set, or ${file} ${rule}`, { cause, file })
  let secret: string
  try {
    secret = readIfPresent(file) ?? (await generate(file))
  } catch (error) {
    throw refuse(`must be a secret that can be read or made: ${reasonOf(error)}`, error)
  }
  if (secret.length < minLength) {
    throw refuse(`must have at least ${minLength} characters; without it a new one is generated`)
  }
  return secret
}

async function generate(file: string): Promise<string> {
  // Not the process ID, which processes in several containers may share.
  const draft = `${file}.${randomUUID()}`
  try {
    await writeFile(draft, `${randomBytes(32).toString('base64url')}\n`, { mode: 0o600, flush: true })
    await link(draft, file)
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) throw new ConfigError(`${file} cannot be made: ${error}`, { cause: error })
  } finally {
    await rm(draft, { force: true })
  }
  return readSmallFile(file)
}

function readIfPresent(file: string): string | undefined {
  try {
    return readSmallFile(file)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw new ConfigError(`${file} cannot be read: ${error}`, { cause: error })
  }
}

function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
