import { json } from 'node:stream/consumers'
import { buildApp } from '../app.ts'
import { ConfigError, loadConfig, reasonOf } from '../plugins/config.ts'
import { createLoggers } from '../plugins/request/logging.ts'

// Tries many environments, given as JSON on stdin, in one process: a start of the service for each would take seconds.
// Prints what each is refused with, as the start would; null: it serves.

async function refusalOf(env: NodeJS.ProcessEnv): Promise<string | null> {
  try {
    const app = await buildApp(loadConfig(env), createLoggers('silent'))
    await app.listenAll()
    return null
  } catch (error) {
    return error instanceof ConfigError ? error.message : `the service cannot start: ${reasonOf(error)}`
  }
}

const environments = await json(process.stdin)
const refusals: (string | null)[] = []
if (Array.isArray(environments)) for (const env of environments) refusals.push(await refusalOf(env))
process.stdout.write(JSON.stringify(refusals), () => process.exit())
