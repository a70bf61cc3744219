import { randomBytes } from 'node:crypto'
import { link, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { ConfigError } from '../config.ts'

/** An empty file, left by a full disk or made by hand, must not become a secret that everybody knows. */
const minLength = 32

/**
 * Reads a secret from `file`, which only its owner may read, and makes one of 256 bits on the first start. Processes
 * that start at once end up with the same secret: the first link(2) wins.
 */
export async function readOrGenerateSecret(file: string): Promise<string> {
  const secret = (await readIfPresent(file)) ?? (await generate(file))
  if (secret.length < minLength) {
    throw new ConfigError(`${file} must have at least ${minLength} characters; without it a new one is generated`)
  }
  return secret
}

async function generate(file: string): Promise<string> {
  await mkdir(dirname(file), { recursive: true })
  const draft = `${file}.${process.pid}`
  try {
    await writeFile(draft, `${randomBytes(32).toString('base64url')}\n`, { mode: 0o600, flush: true })
    await link(draft, file)
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) throw new ConfigError(`${file} cannot be made: ${error}`, { cause: error })
  } finally {
    await rm(draft, { force: true })
  }
  return (await readFile(file, 'utf8')).trim()
}

async function readIfPresent(file: string): Promise<string | undefined> {
  try {
    return (await readFile(file, 'utf8')).trim()
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw new ConfigError(`${file} cannot be read: ${error}`, { cause: error })
  }
}

function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
