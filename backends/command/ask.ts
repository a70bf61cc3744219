import { constants } from 'node:fs'
import { access, stat } from 'node:fs/promises'
import { isAbsolute } from 'node:path'
import type { Call } from '../backend.ts'
import type { CreateContext } from '../definition.ts'
import { ToolFailed } from '../errors.ts'
import { runTool } from '../tool.ts'
import type { Commands, Operation } from './options.ts'
import { readReply } from './reply.ts'

/** What takes as long as there are files. */
const longestSeconds = 24 * 3600
/** How much of an answer that nobody understands is logged. */
const shownCharacters = 200

/** The variables of the service that a program gets; in all others there may be secrets. */
const passedOn = ['PATH', 'HOME', 'LANG', 'LC_ALL', 'TZ', 'TMPDIR']

/** @throws with a sentence that names the command, when its program cannot be run */
export async function requirePrograms(commands: Commands, operations: readonly Operation[]): Promise<void> {
  if (operations.every((operation) => commands[operation] === undefined)) {
    throw new Error(`commands must have at least one of ${operations.join(', ')}`)
  }
  for (const operation of operations) {
    const [file] = commands[operation] ?? []
    if (file === undefined) continue
    const what = `commands/${operation}`
    if (!isAbsolute(file)) throw new Error(`${what} must begin with the absolute path of a program, not ${file}`)
    const stats = await stat(file).catch((cause) => {
      throw new Error(`${what} names ${file}, which cannot be found`, { cause })
    })
    if (!stats.isFile()) throw new Error(`${what} names ${file}, which is no file`)
    await access(file, constants.X_OK).catch((cause) => {
      throw new Error(`${what} names ${file}, which this user may not execute`, { cause })
    })
  }
}

/**
 * Asks the programs of a volume, by one JSON object each on their standard input and output.
 * @param share see `ToolLimits`
 */
export function createAsk(
  commands: Commands,
  { log, requestId = () => undefined }: Pick<CreateContext<unknown>, 'log' | 'requestId'>,
  share: object | undefined,
) {
  return async function ask<O extends Operation>(
    operation: O,
    about: object,
    { signal }: Call,
  ): Promise<ReturnType<typeof readReply<O>>> {
    const [file = '', ...args] = commands[operation] ?? []
    const id = requestId() ?? null
    const tool = {
      file,
      args,
      env: {
        ...environment(),
        STORAGE_PROXY_OPERATION: operation,
        ...(id !== null && { STORAGE_PROXY_REQUEST_ID: id }),
      },
      input: `${JSON.stringify({ operation, requestId: id, ...about })}\n`,
    }
    const { timeoutSeconds = 60 } = commands
    const startedAt = performance.now()
    const fields = () => ({ operation, program: file, duration_ms: Math.round(performance.now() - startedAt) })
    let said: { stdout?: string; stderr?: string; status?: number } = {}
    try {
      const ended = await runTool(tool, {
        signal,
        share,
        timeoutSeconds: operation === 'clone' ? longestSeconds : timeoutSeconds,
      })
      said = ended
      if (ended.status !== 0) {
        throw new ToolFailed(`the ${operation} command ended with status ${ended.status}; the log has what it said`)
      }
      const reply = readReply(operation, ended.stdout)
      log.debug({ ...fields(), ...(ended.stderr !== '' && { stderr: ended.stderr }) }, 'storage command done')
      return reply
    } catch (err) {
      const { status, stderr } = said
      const stdout = said.stdout?.slice(0, shownCharacters)
      log.warn({ ...fields(), status, stdout, stderr, err }, 'storage command failed')
      throw err
    }
  }
}

function environment(): Record<string, string> {
  return Object.fromEntries(
    passedOn.flatMap((name) => {
      const value = process.env[name]
      return value === undefined ? [] : [[name, value]]
    }),
  )
}
