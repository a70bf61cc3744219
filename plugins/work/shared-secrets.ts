import { createHash } from 'node:crypto'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { readOrGenerateSecret } from '../access/generated-secret.ts'
import { ConfigError } from '../config.ts'

/** In the place of a digest: the processes are given their secrets. */
const configured = ''

const names = { SIGNING_KEYS: 'signing-key', MANAGER_TOKENS: 'manager-token' } as const
type Variable = keyof typeof names

/**
 * Of several processes with one database each must accept what another one has signed. A secret that a process has
 * generated into its own DATA_DIR is no secret of the others. So the database remembers a digest of it, which tells
 * nothing of 256 random bits, and a process with another one does not start.
 * @throws {ConfigError}
 */
async function requireShared({ config, database: db }: FastifyInstance, variable: Variable): Promise<void> {
  const file = join(config.dataDir, names[variable])
  const secret = `${variable} ${await readOrGenerateSecret(variable, file)}`
  const digest = createHash('sha256').update(secret).digest('base64url')
  await db
    .insertInto('generated_secrets')
    .values({ name: variable, digest })
    .onConflict((conflict) => conflict.column('name').doNothing())
    .execute()
  const known = await db
    .selectFrom('generated_secrets')
    .select('digest')
    .where('name', '=', variable)
    .executeTakeFirstOrThrow()
  if (known.digest === digest) return
  const others = known.digest === configured ? 'has it set' : 'has generated another one'
  throw new ConfigError(
    `${variable} must be set, to the same for all processes that share the database: another process ${others}, and ` +
      `${file} is known to this one only. To go on with a generated one, set ${variable}_FILE to a copy of it everywhere`,
  )
}

async function rememberConfigured({ database: db }: FastifyInstance, variable: Variable): Promise<void> {
  await db
    .insertInto('generated_secrets')
    .values({ name: variable, digest: configured })
    .onConflict((conflict) => conflict.column('name').doUpdateSet({ digest: configured }))
    .execute()
}

/** While keys are rotated two processes may differ for a while, so this only tells. */
async function tellOtherKeys({ processes, signedUrls, log }: FastifyInstance): Promise<void> {
  const [own = '', ...older] = signedUrls.keyIds
  for (const { id, signingKeys } of await processes.others()) {
    const [theirs = ''] = signingKeys
    if (signingKeys.includes(own) && [own, ...older].includes(theirs)) continue
    const fields = { process: id, key_ids: signedUrls.keyIds, other_key_ids: signingKeys }
    log.warn(fields, 'SIGNING_KEYS differ: a URL that one process has signed is not valid at the other')
  }
}

/** Finds out whether the processes that share the database share their secrets, too. */
export default fp(
  async (app) => {
    const { signingKeys, managerTokens } = app.config
    if (app.database.isShared) {
      if (signingKeys === undefined) await requireShared(app, 'SIGNING_KEYS')
      if (managerTokens === undefined) await requireShared(app, 'MANAGER_TOKENS')
      // Only now: a process that does not start changes nothing for the others.
      if (signingKeys !== undefined) await rememberConfigured(app, 'SIGNING_KEYS')
      if (managerTokens !== undefined) await rememberConfigured(app, 'MANAGER_TOKENS')
    }
    await tellOtherKeys(app)
  },
  { name: 'shared-secrets', dependencies: ['config', 'database', 'processes', 'signed-urls'] },
)
