import { type Listener, requireApart } from './addresses.ts'
import { ConfigError } from './error.ts'
import { parseSecrets, readVariable, type Setting, settingOf } from './setting.ts'
import type { Values } from './variables.ts'

/** How the wire of Backend.AI is spoken. */
export interface BackendAi {
  /** What its manager sends; all are accepted. */
  managerSecrets: string[]
  /** The first one signs its tokens, all verify. Undefined: the signing keys do. */
  tokenSecrets: string[] | undefined
  tokenSeconds: number
  /** What its paths begin with inside the service, and outside where it has no listener of its own. */
  prefix: string
  /** What it calls the header of the request ID. */
  requestId: { name: string; prefix: string }
  /** Undefined: it keeps no artifacts here. */
  artifacts: Setting | undefined
  managerListener: Listener | undefined
  clientListener: Listener | undefined
}

/** They say nothing where its wire is not spoken. */
const backendAiOnly = [
  'BACKEND_AI_TOKEN_SECRET',
  'BACKEND_AI_TOKEN_SECRET_FILE',
  'BACKEND_AI_ARTIFACTS',
  'BACKEND_AI_ARTIFACTS_FILE',
  'BACKEND_AI_MANAGER_HOST',
  'BACKEND_AI_MANAGER_PORT',
  'BACKEND_AI_CLIENT_HOST',
  'BACKEND_AI_CLIENT_PORT',
]

export function backendAiOf(values: Values, env: NodeJS.ProcessEnv): BackendAi | undefined {
  const managerSecrets = parseSecrets(readVariable(env, 'BACKEND_AI_MANAGER_SECRET'), 16)
  const tokenSecrets = parseSecrets(readVariable(env, 'BACKEND_AI_TOKEN_SECRET'), 16)
  if (managerSecrets === undefined) {
    const idle = backendAiOnly.find((name) => env[name])
    if (idle === undefined) return undefined
    throw new ConfigError(`${idle} must be set together with BACKEND_AI_MANAGER_SECRET`)
  }
  const listeners = [
    { name: 'PORT', host: values.HOST, port: values.PORT },
    { name: 'MANAGER_PORT', host: values.MANAGER_HOST ?? values.HOST, port: values.MANAGER_PORT },
  ]
  const listenerOf = (face: 'MANAGER' | 'CLIENT'): Listener | undefined => {
    const name = `BACKEND_AI_${face}_PORT`
    const { [`BACKEND_AI_${face}_HOST` as const]: given, [`BACKEND_AI_${face}_PORT` as const]: port } = values
    if (port === undefined) {
      if (given !== undefined) throw new ConfigError(`BACKEND_AI_${face}_HOST must be set together with ${name}`)
      return undefined
    }
    const host = given ?? values.HOST
    for (const { name: otherName, host: other, port: taken } of listeners) {
      if (taken !== undefined) requireApart(name, { host, port }, otherName, { host: other, port: taken })
    }
    listeners.push({ name, host, port })
    return { host, port }
  }
  const prefix = values.BACKEND_AI_PREFIX
  return {
    managerSecrets,
    tokenSecrets,
    tokenSeconds: values.BACKEND_AI_TOKEN_SECONDS,
    prefix,
    requestId: { name: 'x-backendai-requestid', prefix },
    artifacts: settingOf(readVariable(env, 'BACKEND_AI_ARTIFACTS')),
    managerListener: listenerOf('MANAGER'),
    clientListener: listenerOf('CLIENT'),
  }
}
