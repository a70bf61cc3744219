import { ConfigError } from './error.ts'
import { parseSecrets, type Variable } from './setting.ts'

const leastTokenLength = 16

export interface ManagerToken {
  /** Undefined: the audit trail names it by a part of its digest. */
  name: string | undefined
  token: string
}

export function parseManagerTokens(setting: Variable): ManagerToken[] | undefined {
  const values = parseSecrets(setting, leastTokenLength)
  // Any other character cannot be sent in an Authorization header, or splits it.
  if (values?.every((value) => /^[!-~]+$/.test(value)) === false) {
    const rule = 'must have visible ASCII characters only, and commas between its values'
    throw new ConfigError(`${setting.name} ${rule}`, setting)
  }
  const tokens = values?.map(toManagerToken)
  const short = tokens?.find(({ token }) => token.length < leastTokenLength)
  if (short !== undefined) {
    const rule = `must have at least ${leastTokenLength} characters in each of its tokens; that of ${short.name} has fewer`
    throw new ConfigError(`${setting.name} ${rule}`, setting)
  }
  return tokens
}

/** `name=token`. What a token in base64 ends with does not make a name of the rest. */
function toManagerToken(value: string): ManagerToken {
  const [, name, token] = /^([A-Za-z0-9._-]{1,64})=([^=].*)$/.exec(value) ?? []
  return token === undefined ? { name: undefined, token: value } : { name, token }
}
